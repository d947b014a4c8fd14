"""Where a text stops and which token starts it: the same as when transformers generates from the folder."""

import json
import warnings

import pytest

from tests.support import FRAMEWORKS, load
from tfguide.checkpoints import read_checkpoint, write_checkpoint

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers

PROMPT = [5, 3, 2, 7]


def theirs(case, folder):
    """The new tokens of transformers, 12 at most."""
    model = getattr(transformers, hf.CASES[case][0]).from_pretrained(folder)
    tokens = torch.tensor([PROMPT])
    text = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False)
    return text[0, 1 if model.config.is_encoder_decoder else len(PROMPT) :].tolist()


def folder_with(case, tmp_path, said, **changes):
    """A folder with this generation_config.json, None for none, and these changes of config.json."""
    folder = hf.save(hf.make(case), tmp_path / case)
    hf.edit_config(folder, **changes)
    (folder / "generation_config.json").unlink()
    if said is not None:
        (folder / "generation_config.json").write_text(json.dumps(said))
    return folder


@pytest.fixture(scope="module", params=["gpt2-untied", "llama-3", "t5-gelu"])
def free(request, tmp_path_factory):
    """A case, and the 12 tokens that it writes where nothing ends the text."""
    case = request.param
    said = {"decoder_start_token_id": 3} if case == "t5-gelu" else {}
    return case, theirs(case, folder_with(case, tmp_path_factory.mktemp("free"), said))


@pytest.mark.filterwarnings("ignore:.*(names no eos_token_id|not one of the 37 tokens)")
@pytest.mark.parametrize("where", ["several", "one", "only config.json", "both differ", "null", "none", "outside"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_tokens_as_transformers(free, where, framework, tmp_path):
    case, text = free
    end = text[4]
    start = {"decoder_start_token_id": 3} if case == "t5-gelu" else {}
    said, changes = {
        "several": ({"eos_token_id": [36, end]}, dict(eos_token_id=None)),
        "one": ({"eos_token_id": end}, dict(eos_token_id=None)),
        "only config.json": (None, dict(eos_token_id=[36, end])),
        "both differ": ({"eos_token_id": end}, dict(eos_token_id=text[1])),
        "null": ({"eos_token_id": None}, dict(eos_token_id=end)),
        "none": ({"temperature": 0.5}, dict(eos_token_id=end)),
        "outside": ({"eos_token_id": [99, end]}, dict(eos_token_id=text[1])),
    }[where]
    folder = folder_with(case, tmp_path, None if said is None else said | start, **changes)
    expected = theirs(case, folder)
    assert (len(expected) < 12) == (where not in ("null", "none")), "the text ends too late to tell anything"
    model = load(framework).load_checkpoint(folder)
    assert load(framework).generate(model, [PROMPT], max_new_tokens=12) == [expected]


@pytest.mark.parametrize(
    ("said", "keys"),
    [
        ({"decoder_start_token_id": 5, "eos_token_id": 1}, {"decoder_start_token_id": None}),
        ({"decoder_start_token_id": [5], "eos_token_id": 1}, {}),
        ({"bos_token_id": 5, "eos_token_id": 1}, {"decoder_start_token_id": None}),
        (None, {"decoder_start_token_id": 5}),
        (None, {"decoder_start_token_id": None, "bos_token_id": 5}),
    ],
    ids=str,
)
def test_what_a_decoder_starts_from(said, keys, tmp_path):
    folder = folder_with("t5-gelu", tmp_path, said, **keys)
    tg = load("torch")
    model = tg.load_checkpoint(folder)
    assert model.config.decoder_start_token_id == 5
    assert tg.generate(model, [PROMPT], max_new_tokens=12) == [theirs("t5-gelu", folder)]


def test_a_decoder_without_any_start_token_loads(tmp_path):
    folder = folder_with("t5-gelu", tmp_path, {"eos_token_id": 1}, decoder_start_token_id=None)
    assert read_checkpoint(folder)[0].decoder_start_token_id is None


@pytest.mark.parametrize("said", [True, False])
def test_what_is_not_applied_is_named(said, tmp_path):
    keys = {
        "stop_strings": ["\n"],
        "min_length": 5,
        "suppress_tokens": [],
        "forced_eos_token_id": None,
        "max_length": 7,
    }
    folder = folder_with("gpt2", tmp_path, keys | {"eos_token_id": 7} if said else None, **({} if said else keys))
    name = "generation_config.json" if said else "config.json"
    with pytest.warns(UserWarning) as caught:
        read_checkpoint(folder)
    named = [str(w.message) for w in caught if "not applied" in str(w.message)]
    assert named == [f"{folder / name}: not applied when text is generated here: min_length=5, stop_strings=['\\n']"]


def test_an_end_token_of_config_json_that_does_not_count_is_named(tmp_path):
    folder = folder_with("gpt2", tmp_path, {"temperature": 0.5}, eos_token_id=[7, 11])
    with pytest.warns(UserWarning, match=r"names no eos_token_id, so no token ends .* config.json has \[7, 11\]"):
        assert read_checkpoint(folder)[0].eos_token_id is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"eos_token_id": "7"}', '{"decoder_start_token_id": [3, 5]}'])
def test_a_file_that_is_not_whole_is_named(text, tmp_path):
    folder = folder_with("t5-gelu", tmp_path, {})
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"generation_config\.json: "):
        read_checkpoint(folder)


def test_an_encoder_reads_none(tmp_path):
    folder = hf.save(hf.make("bert"), tmp_path / "bert")
    (folder / "generation_config.json").write_text("{")
    read_checkpoint(folder)


class TestWriting:
    @pytest.mark.parametrize("case", ["gpt2", "llama-3", "t5-gelu"])
    def test_read_back(self, case, tmp_path):
        said = {"eos_token_id": [7, 11], "pad_token_id": 2, "bos_token_id": 6, "decoder_start_token_id": 9}
        folder = folder_with(case, tmp_path, said, eos_token_id=None)
        model = read_checkpoint(folder)
        assert model[0].eos_token_ids == (7, 11)
        write_checkpoint(tmp_path / "again", *model)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_checkpoint(tmp_path / "again")[0] == model[0]
        loaded = getattr(transformers, hf.CASES[case][0]).from_pretrained(tmp_path / "again").generation_config
        assert {name: getattr(loaded, name) for name in said} == said

    def test_over_a_folder_that_says_other_tokens(self, tmp_path):
        folder = folder_with("gpt2", tmp_path, {"eos_token_id": [3, 5], "temperature": 0.5, "bos_token_id": 3})
        config, weights = read_checkpoint(folder)
        config = config.replace(eos_token_id=11, bos_token_id=None)
        write_checkpoint(folder, config, weights, overwrite=True)
        assert read_checkpoint(folder)[0] == config
        assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": 11, "temperature": 0.5}

    def test_without_an_end_token(self, tmp_path):
        folder = folder_with("llama-3", tmp_path, {"eos_token_id": 7})
        config, weights = read_checkpoint(folder)
        write_checkpoint(tmp_path / "again", config.replace(eos_token_id=None), weights)
        assert read_checkpoint(tmp_path / "again")[0].eos_token_id is None
        assert len(theirs("llama-3", tmp_path / "again")) == 12
