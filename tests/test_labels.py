"""Encoders that classify texts or tokens, and encoders that read vectors instead of tokens."""

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, batch, load, numpy, random_weights, refuses, small_config, tensor, to_float
from tfguide import LabelHead, ModelConfig, cost
from tfguide.training import NO_LABEL, Batch, Recipe, learn

CASES = {
    "of a text, from the mean": dict(labels=LabelHead(n_labels=5)),
    "of a text, from the pooler": dict(labels=LabelHead(n_labels=5), pooler=True),
    "of each token": dict(labels=LabelHead(n_labels=5, per="token"), positions="rotary"),
    "of vectors": dict(labels=LabelHead(n_labels=5), d_input=7, vocab_size=None, positions="learned"),
    "of each vector": dict(labels=LabelHead(n_labels=5, per="token"), d_input=7, vocab_size=None, norm="rms"),
}


def make(case):
    config = small_config("encoder", decoder_start_token_id=None, **CASES[case])
    if config.d_input is None:
        (inputs,), masks = batch(config)
        return config, random_weights(config), inputs, masks["valid"]
    draws = np.random.default_rng(0)
    valid = np.arange(7) < np.array([2, 4, 7])[:, None]
    return config, random_weights(config), draws.normal(size=(3, 7, 7)).astype(np.float32), valid


def logits_of(package, model, inputs, valid):
    return numpy(model.classify(model(inputs, valid), valid))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_frameworks_give_the_logits_of_the_reference(case, name):
    config, weights, inputs, valid = make(case)
    expected = logits_of(ref, ref.from_weights(config, weights), inputs, valid)
    assert expected.shape == ((3, 7, 5) if config.labels.per == "token" else (3, 5)) and expected.std() > 0.1
    model = load(name).from_weights(config, weights)
    args = tensor(name, inputs), tensor(name, valid)
    np.testing.assert_allclose(logits_of(load(name), model, *args), expected, atol=2e-5)
    alone = [logits_of(load(name), model, tensor(name, inputs[:1, :2]), None)]  # without the padding of the first row
    np.testing.assert_allclose(alone[0][0], expected[0, :2] if config.labels.per == "token" else expected[0], atol=2e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_they_are_quantised_and_pruned_as_other_models(name):
    package = load(name)
    for case in CASES:
        config, weights, inputs, valid = make(case)
        model = package.from_weights(config, weights)
        args = tensor(name, inputs), tensor(name, valid)
        whole = logits_of(package, model, *args)
        for smaller in (package.quantize(model, 8), package.prune_magnitude(model, 0.3)):
            found = logits_of(package, smaller, *args)
            assert found.shape == whole.shape and 0 < np.abs(found - whole).max() < 0.7 * np.abs(whole).max()
        half = package.from_weights(config, weights, "bfloat16")
        found = to_float(half.classify(half(*args), args[1]))
        assert np.abs(found - whole).max() < 0.1 * np.abs(whole).max()


@pytest.fixture(scope="module")
def expected():
    return {}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_they_learn_in_the_same_steps_in_both_frameworks(case, name, expected):
    config, weights, inputs, valid = make(case)
    labels = np.random.default_rng(1).integers(0, 5, (3, 7))
    labels = np.where(valid, labels, NO_LABEL) if config.labels.per == "token" else labels[:, 0]
    one = load(name).Trainer(load(name).from_weights(config, weights), Recipe(steps=5, warmup=1, learning_rate=0.01))
    losses = [record.loss for record in learn(one, lambda step: Batch({"tokens": inputs, "valid": valid}, labels))]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected.setdefault(case, losses), rtol=1e-4)


def test_the_weights_are_in_the_table_and_counted():
    config = make("of vectors")[0]
    shapes = tfguide.weight_shapes(config)
    assert shapes["embedding.projection.weight"] == (7, 22) and shapes["labels.weight"] == (22, 5)
    assert "embedding.token.weight" not in shapes
    assert cost.parameters(config) == sum(int(np.prod(shape)) for shape in shapes.values())
    less = cost.prefill_flops(config, 11, batch=3) - cost.prefill_flops(config.replace(d_input=2), 11, batch=3)
    assert less == 2 * 3 * 11 * (7 - 2) * config.d_model
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_what_does_not_go_together_is_refused():
    head, sizes = LabelHead(n_labels=3), dict(d_model=8, n_layers=1, n_heads=2, d_ff=8)
    for fields, error, message in (
        (dict(kind="decoder", vocab_size=7, labels=head), ValueError, "labels belong to kind='encoder'"),
        (dict(kind="encoder", vocab_size=7, labels=3), TypeError, "labels must be a LabelHead or None"),
        (dict(kind="decoder", d_input=7), ValueError, "d_input belongs to kind='encoder'"),
        (dict(kind="encoder", d_input=7, vocab_size=7), ValueError, "vocab_size must be None, got 7"),
        (dict(kind="encoder", d_input=7, pad_token_id=0), ValueError, "pad_token_id must be None, got 0"),
        (dict(kind="encoder", d_input=7, n_token_types=2), ValueError, "n_token_types must be 0, got 2"),
        (dict(kind="encoder", d_input=0), ValueError, "d_input must be at least 1"),
        (dict(kind="encoder"), TypeError, "vocab_size must be an integer, got None"),
    ):
        with refuses(error, message):
            ModelConfig(**sizes, **fields)
    with refuses(ValueError, "per must be one of 'text', 'token', got 'word'"):
        LabelHead(n_labels=3, per="word")
    with refuses(ValueError, "n_labels must be at least 1"):
        LabelHead(n_labels=0)


@pytest.mark.parametrize("name", ("reference", *FRAMEWORKS))
def test_wrong_inputs_are_refused(name):
    config, weights, inputs, valid = make("of vectors")
    model = load(name).from_weights(config, weights)
    with refuses(TypeError, "tokens must be floating-point vectors, since the model has d_input=7"):
        model(tensor(name, np.zeros((3, 7), int)))
    with refuses(ValueError, "tokens must end in 7 features"):
        model(tensor(name, inputs[..., :5]))
    with refuses(ValueError, "valid must have the shape of the tokens, (3, 7)"):
        model(tensor(name, inputs), tensor(name, valid[:, :3]))
    hidden = model(tensor(name, inputs))
    with refuses(ValueError, "a row of padding only"):
        model.classify(hidden, tensor(name, np.zeros((3, 7), bool)))
    plain = small_config("encoder")
    with refuses(ValueError, "this model has no head for labels"):
        load(name).from_weights(plain, random_weights(plain)).classify(hidden)
