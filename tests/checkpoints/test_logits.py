"""The same folder in both frameworks and in transformers: equal logits, read and written, with padding."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, TABLES, check_table, numpy, tensor
from tfguide.checkpoints.reading import FAMILIES

hf = pytest.importorskip("tests.checkpoints.hf")
transformers = hf.transformers

TABLE = TABLES / "folders.json"
TOLERANCE = 1e-4


def ours(tg, framework, model):
    """What our model gives for the inputs, the inputs, and where they are real."""
    config = model.config
    tokens, masks, real = hf.inputs(config.kind, config.vocab_size, config.n_token_types)
    arguments = {name: tensor(framework, mask) for name, mask in masks.items()}
    return numpy(model(*(tensor(framework, t) for t in tokens), **arguments)), tokens, masks, real


@pytest.mark.filterwarnings("ignore:.*pretraining head")
def test_loaded_and_saved_again(case, framework, tg, tmp_path, table):
    name, theirs, folder = case
    model = tg.load_checkpoint(folder)
    received, tokens, masks, real = ours(tg, framework, model)
    expected = hf.outputs(theirs, tokens, masks)
    difference = np.abs(received - expected)[real].max()
    table.append(about(name, framework) | dict(difference=float(difference)))
    assert difference < TOLERANCE

    tg.save_checkpoint(model, tmp_path / "again", family=theirs.config.model_type)
    again = auto_class(model.config.kind).from_pretrained(tmp_path / "again")
    assert np.abs(hf.outputs(again, tokens, masks) - expected)[real].max() < TOLERANCE


def about(case, framework):
    """A row of the book's table: what was read, of which family, and by which framework."""
    return dict(family=hf.config(case).model_type, case=case, framework=framework)


def test_the_table_in_the_book_is_of_these_cases():
    """Each case, read in both frameworks and written so that transformers reads it, as above."""
    check_table(TABLE, [about(case, name) for case in hf.CASES for name in FRAMEWORKS], TOLERANCE)
    assert {about(case, "")["family"] for case in hf.CASES} == set(FAMILIES)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "gemma3_text", "deepseek_v3", "t5"])
def test_half_precision_files(kind, framework, tg, tmp_path):
    case = {"gpt2": "gpt2-untied", "llama": "llama-3", "t5": "t5-1.1"}.get(kind, kind)
    folder = hf.save(hf.make(case), tmp_path / kind, dtype=hf.torch.bfloat16)
    model = tg.load_checkpoint(folder)
    received, tokens, masks, real = ours(tg, framework, model)
    theirs = auto_class(model.config.kind).from_pretrained(folder, dtype=hf.torch.float32)
    assert np.abs(received - hf.outputs(theirs, tokens, masks))[real].max() < TOLERANCE


def test_the_scale_of_the_embedding_is_rounded_to_the_type_of_the_model(framework, tg, saved):
    folder = saved("gemma3_text")  # sqrt(24) is 4.899, and 4.90625 in bfloat16
    theirs = transformers.Gemma3ForCausalLM.from_pretrained(folder, dtype=hf.torch.bfloat16)
    expected = theirs.model.embed_tokens(hf.torch.tensor([[2, 3, 7]])).float().detach().numpy()
    tokens, positions = (tensor(framework, np.array([row])) for row in ([2, 3, 7], [0, 1, 2]))
    received = tg.load_checkpoint(folder, dtype="bfloat16").embedding(tokens, positions)
    received = received.detach().float() if framework == "torch" else np.asarray(received).astype(np.float32)
    np.testing.assert_array_equal(received, expected)


def test_an_older_spelling_of_the_rotary_scaling(framework, tg, saved):
    folder = saved("llama-3")
    rope = {name: value for name, value in hf.LLAMA3.items() if name != "rope_theta"}
    hf.edit_config(folder, "rope_parameters", rope_theta=hf.LLAMA3["rope_theta"], rope_scaling=rope)
    received, tokens, masks, real = ours(tg, framework, tg.load_checkpoint(folder))
    assert np.abs(received - hf.outputs(hf.make("llama-3"), tokens, masks))[real].max() < TOLERANCE


def test_what_is_wrong_with_a_folder_is_said_in_both_frameworks(tg, saved):
    folder = saved("gpt2")
    hf.edit_config(folder, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ValueError, match="scale_attn_by_inverse_layer_idx"):
        tg.load_checkpoint(folder)
    assert tg.load_checkpoint(folder, ignore=("scale_attn_by_inverse_layer_idx",)).config.n_layers == 2


def test_saving_refuses_to_overwrite_unless_told(tg, saved):
    folder = saved("gpt2")
    model = tg.load_checkpoint(folder)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        tg.save_checkpoint(model, folder)
    tg.save_checkpoint(model, folder, overwrite=True)
    assert tg.load_checkpoint(folder).config == model.config


def auto_class(kind):
    """The class of transformers that makes a model of what the folder says."""
    return {
        "encoder": transformers.AutoModel,
        "decoder": transformers.AutoModelForCausalLM,
        "encoder-decoder": transformers.AutoModelForSeq2SeqLM,
    }[kind]
