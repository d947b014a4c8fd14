"""Folders of classifiers: read with the logits of transformers, and written so that transformers has the same."""

import json

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, tensor
from tfguide.checkpoints import read_checkpoint, write_checkpoint

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers
CASES = {
    "BertForSequenceClassification": (hf.BERT, "text"),
    "BertForTokenClassification": (hf.BERT, "token"),
    "RobertaForSequenceClassification": (hf.ROBERTA, "text"),
    "RobertaForTokenClassification": (hf.ROBERTA, "token"),
}
TOKENS = np.random.default_rng(0).integers(2, 37, (3, 7))
VALID = np.arange(7) < np.array([3, 5, 7])[:, None]


def make(name, n_labels=5):
    keys, _ = CASES[name]
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**keys, num_labels=n_labels, pad_token_id=0 if "Bert" in name[:4] else 1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def theirs(model):
    tokens = np.where(VALID, TOKENS, model.config.pad_token_id)
    with torch.no_grad():
        return tokens, model(torch.tensor(tokens), attention_mask=torch.tensor(VALID).long()).logits.numpy()


def ours(package, model, name, tokens):
    args = tensor(name, tokens), tensor(name, VALID)
    return numpy(model.classify(model(*args), args[1]))


@pytest.mark.parametrize("name", CASES)
def test_the_logits_are_those_of_transformers(name, tmp_path):
    model = make(name)
    model.save_pretrained(tmp_path / "theirs")
    tokens, expected = theirs(model)
    config, weights = read_checkpoint(tmp_path / "theirs")
    assert (config.labels.n_labels, config.labels.per) == (5, CASES[name][1])
    real = VALID if config.labels.per == "token" else slice(None)
    found = ours(ref, ref.from_weights(config, weights), "reference", tokens)
    np.testing.assert_allclose(found[real], expected[real], atol=1e-4)
    for framework in FRAMEWORKS:
        read = load(framework).load_checkpoint(tmp_path / "theirs")
        np.testing.assert_allclose(ours(load(framework), read, framework, tokens)[real], expected[real], atol=1e-4)
    write_checkpoint(tmp_path / "ours", config, weights)
    again, info = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    np.testing.assert_array_equal(theirs(again.eval())[1], expected)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [name]
    assert read_checkpoint(tmp_path / "ours")[0] == config


def test_labels_from_a_mean_have_no_class_there(tmp_path):
    config = read_labelled(tmp_path).replace(pooler=False)
    with refuses(ValueError, "labels of a text need pooler.dense.weight"):
        write_checkpoint(tmp_path / "m", config, random_weights(config))
    assert not (tmp_path / "m").exists()


def read_labelled(folder):
    make("BertForSequenceClassification").save_pretrained(folder / "theirs")
    return read_checkpoint(folder / "theirs")[0]


def test_a_head_of_another_class_is_refused(tmp_path):
    read_labelled(tmp_path)
    file = tmp_path / "theirs" / "config.json"
    keys = json.loads(file.read_text())
    file.write_text(json.dumps(keys | {"architectures": ["BertForMultipleChoice"]}))
    with refuses(ValueError, "a head for a task of its own, which tfguide has not"):
        read_checkpoint(tmp_path / "theirs")
    file.write_text(json.dumps(keys | {"id2label": ["good", "bad"]}))
    with refuses(ValueError, "id2label=['good', 'bad'] is not supported"):
        read_checkpoint(tmp_path / "theirs")
    file.write_text(json.dumps(keys | {"id2label": {"0": "good", "1": "bad", "2": "none"}}))
    with refuses(ValueError, "tensor 'classifier.weight' must have shape (3, 21), got (5, 21)"):
        read_checkpoint(tmp_path / "theirs")


def test_two_labels_are_the_default(tmp_path):
    make("RobertaForTokenClassification", 2).save_pretrained(tmp_path)
    keys = json.loads((tmp_path / "config.json").read_text())
    for name in ("id2label", "label2id"):
        keys.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(keys))
    assert read_checkpoint(tmp_path)[0].labels == tfguide.LabelHead(n_labels=2, per="token")
