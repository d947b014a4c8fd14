"""A pruned model equals the dense model with zeros in the pruned places."""

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, batch, load, numpy, random_weights, small_config, tensor
from tfguide.compress import heads, pruning

KINDS = ["encoder", "decoder", "encoder-decoder"]


def run(name, model, config):
    inputs, masks = batch(config)
    return numpy(model(*(tensor(name, x) for x in inputs), **{k: tensor(name, x) for k, x in masks.items()}))


def reference(config, weights):
    inputs, masks = batch(config)
    return ref.forward(config, weights, *inputs, **masks)


def make(kind="decoder", **changes):
    config = small_config(kind, **{"activation": "swiglu", "n_kv_heads": 3, **changes})
    return config, random_weights(config)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_exactly_the_smallest_are_zero(scope, sparsity):
    config, weights = make()
    weights["decoder.layers.0.feed_forward.up.weight"][:] = 0.25  # all equal: still exactly that many
    pruned = pruning.prune_magnitude(config, weights, sparsity, scope)
    matrices = tfguide.weights.matrix_names(config)
    for name in weights:
        if name not in matrices:
            np.testing.assert_array_equal(pruned[name], weights[name])
    groups = [[name] for name in matrices] if scope == "layer" else [matrices]
    for group in groups:
        before = np.concatenate([weights[name].ravel() for name in group])
        after = np.concatenate([pruned[name].ravel() for name in group])
        gone = after == 0
        assert gone.sum() == round(sparsity * before.size)
        assert (after[~gone] == before[~gone]).all()
        if gone.any():
            assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()


def test_two_of_four():
    config, weights = make(d_ff=27)
    pruned = pruning.prune_two_four(config, weights)
    array = pruned["decoder.layers.1.feed_forward.down.weight"]  # 27 inputs: six fours and three
    assert ((array[:24].reshape(6, 4, -1) != 0).sum(axis=1) == 2).all()
    assert ((array[24:] != 0).sum(axis=0) == 2).all()
    full = weights["decoder.layers.1.feed_forward.down.weight"][:24].reshape(6, 4, -1)
    kept = array[:24].reshape(6, 4, -1) != 0
    assert (np.where(kept, np.abs(full), np.inf).min(axis=1) >= np.where(kept, 0, np.abs(full)).max(axis=1)).all()


TOKENS = np.random.default_rng(0).integers(0, 37, (3, 11))
ROTARY = {"positions": "rotary", "norm": "rms"}


@pytest.mark.parametrize("sparsity", [0.0, 0.4, 0.99])
def test_a_share_of_the_inputs_of_each_output(sparsity):
    config, weights = make()
    pruned = pruning.prune_magnitude(config, weights, sparsity, "output")
    for name in tfguide.weights.matrix_names(config):
        gone, magnitudes = pruned[name] == 0, np.abs(weights[name])
        n = round(sparsity * len(gone))
        assert (gone.sum(axis=0) == n).all() and (pruned[name][~gone] == weights[name][~gone]).all()
        smallest = np.where(gone, np.inf, magnitudes).min(axis=0)
        assert n == len(gone) or (np.where(gone, magnitudes, 0).max(axis=0) <= smallest).all()


def test_an_entry_counts_by_what_it_adds_to_the_output():
    """By hand: the input of the small weight is ten times as large, so that it adds more than its neighbour."""
    config, weights = make()
    name = "decoder.layers.0.feed_forward.down.weight"
    weights[name][:4, 0] = (0.1, -0.5, 0.4, 0.3)
    gram = np.diag(np.square([10.0, 1, 1, 1, *[1] * 22]))
    gram[0, 1] = gram[1, 0] = -7  # only the diagonal counts
    grams = {name: gram}
    pruned = pruning.prune_two_four(config, weights, lambda path: grams.get(f"{path}.weight"))
    np.testing.assert_array_equal(pruned[name][:4, 0], np.array([0.1, -0.5, 0, 0], np.float32))
    plain = pruning.prune_two_four(config, weights)
    np.testing.assert_array_equal(plain[name][:4, 0], np.array([0, -0.5, 0.4, 0], np.float32))
    others = [other for other in weights if other != name]
    assert all(np.array_equal(pruned[other], plain[other]) for other in others)  # without inputs: the magnitude
    with pytest.raises(
        ValueError, match=r"the inputs of 'decoder\.layers\.0\.self_attention\.query\.weight' are not known"
    ):
        pruning.prune_magnitude(config, weights, 0.5, "global", lambda path: grams.get(f"{path}.weight"))


@pytest.mark.parametrize("scope", ["output", "layer", "global", "two of four"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_calibrated_model_is_nearer_and_is_the_dense_model_with_zeros(name, scope):
    module = load(name)
    config, weights = make(**ROTARY)
    for key in weights:  # inputs of very different sizes, as real models have them
        if key.endswith("norm.weight"):
            weights[key] = np.exp(np.random.default_rng(1).normal(0, 1.5, weights[key].shape)).astype(np.float32)
    model, errors = module.from_weights(config, weights), []
    exact = numpy(model(tensor(name, TOKENS)))
    for calibration in (None, TOKENS):
        if scope == "two of four":
            small = module.prune_two_four(model, calibration)
        else:
            small = module.prune_magnitude(model, 0.5, scope, calibration)
        masked = {key: np.where(array == 0, 0, weights[key]) for key, array in module.to_weights(small).items()}
        found = numpy(small(tensor(name, TOKENS)))
        np.testing.assert_allclose(found, ref.forward(config, masked, TOKENS), atol=1e-4)
        assert sum((array == 0).sum() for array in masked.values()) > 0
        errors.append(np.square(found - exact).mean())
    assert errors[1] < 0.8 * errors[0]


def test_both_frameworks_keep_the_same_weights():
    pytest.importorskip("torch"), pytest.importorskip("tensorflow")
    config, weights = make(**ROTARY)
    kept = [
        {key: array != 0 for key, array in load(name).to_weights(
            load(name).prune_two_four(load(name).from_weights(config, weights), TOKENS)
        ).items()}
        for name in FRAMEWORKS
    ]  # fmt: skip
    assert all(np.array_equal(kept[0][key], kept[1][key]) for key in weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_heads_left_out_are_heads_that_output_nothing(name, kind):
    config, weights = make(kind, positions="learned")
    smaller, pruned = pruning.prune_heads(config, weights, 2)
    assert (smaller.n_heads, smaller.n_kv_heads, smaller.d_head) == (4, 2, 10)
    assert smaller.attention_scale == config.attention_scale
    masked = dict(weights)
    for layer in tfguide.weights.attention_names(config):
        key = f"{layer}.output.weight"
        groups = weights[key].reshape(3, 20, -1).copy()
        kept = pruned[key].reshape(2, 20, -1)
        gone = [k for k in range(3) if not any(np.array_equal(groups[k], other) for other in kept)]
        assert len(gone) == 1
        groups[gone[0]] = 0
        masked[key] = groups.reshape(weights[key].shape)
    model = load(name).prune_heads(load(name).from_weights(config, weights), 2)
    assert model.config == smaller
    np.testing.assert_allclose(run(name, model, smaller), reference(config, masked), atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_neurons_left_out_are_neurons_that_output_nothing(name, kind, activation):
    config, weights = make(kind, activation=activation)
    smaller, pruned = pruning.prune_neurons(config, weights, 11)
    masked = dict(weights)
    for key in [key for key in weights if key.endswith("down.weight")]:
        rows = {row.tobytes() for row in pruned[key]}
        masked[key] = np.stack([row if row.tobytes() in rows else row * 0 for row in weights[key]])
        assert len(rows) == 11
    model = load(name).prune_neurons(load(name).from_weights(config, weights), 11)
    assert model.config.d_ff == smaller.d_ff == 11
    np.testing.assert_allclose(run(name, model, smaller), reference(config, masked), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_layers_left_out_are_layers_that_add_nothing(name, kind):
    config, weights = make(kind, n_layers=3, n_encoder_layers=2 if kind == "encoder-decoder" else None)
    stack = "encoder" if kind == "encoder" else "decoder"
    masked = dict(weights)
    for key in weights:
        if key.startswith(f"{stack}.layers.1.") and any(end in key for end in ("output.", "down.")):
            masked[key] = weights[key] * 0
    model = load(name).prune_layers(load(name).from_weights(config, weights), [1])
    assert model.config.n_layers == 2
    np.testing.assert_allclose(run(name, model, model.config), reference(config, masked), atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_layer_that_does_nothing_changes_nothing(name):
    config, weights = make(n_layers=3, positions="rotary", sliding_window=4)
    for key in weights:
        if key.startswith("decoder.layers.1.") and any(end in key for end in ("output.", "down.")):
            weights[key] *= 0
    model = load(name).from_weights(config, weights)
    changes = load(name).layer_changes(model, np.arange(20).reshape(2, 10))
    assert len(changes) == 3 and abs(changes[1]) < 1e-6 and min(changes[0], changes[2]) > 1e-3


@pytest.mark.parametrize("n_kv_heads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_equal_heads_are_pooled_without_a_trace(name, kind, n_kv_heads):
    config, weights = make(kind, n_kv_heads=6, positions="relative" if kind != "decoder" else "alibi")
    for key, array in weights.items():
        if "attention.key." in key or "attention.value." in key:
            grouped = array.reshape(*array.shape[:-1], n_kv_heads, 6 // n_kv_heads, 10)
            grouped[...] = grouped[..., :1, :].copy()
    model = load(name).pool_kv_heads(load(name).from_weights(config, weights), n_kv_heads)
    assert model.config.n_kv_heads == n_kv_heads
    np.testing.assert_allclose(run(name, model, model.config), reference(config, weights), atol=1e-5)


def test_a_pooled_head_is_the_mean():
    config, weights = make(n_kv_heads=6)
    _, pooled = heads.pool_kv_heads(config, weights, 2)
    key = "decoder.layers.0.self_attention.value.weight"
    mean = weights[key].reshape(22, 6, 10)[:, 3:].mean(axis=1)
    np.testing.assert_allclose(pooled[key][:, 10:], mean, atol=1e-7)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_cannot_be_pruned_is_refused(name):
    module = load(name)
    config, weights = make()
    model = module.from_weights(config, weights)
    for call, message in [
        (lambda: module.prune_magnitude(model, 1.0), r"sparsity must lie in \[0, 1\), got 1.0"),
        (lambda: module.prune_magnitude(model, float("nan")), "sparsity"),
        (lambda: module.prune_magnitude(model, 0.5, "model"), "scope must be"),
        (lambda: module.prune_magnitude(model, 0.5, "output", [[1, 99]]), "tokens must lie between 0 and 36, got 99"),
        (lambda: module.prune_two_four(module.quantize(model, 8), TOKENS), "quantised model cannot be pruned"),
        (lambda: module.prune_two_four(module.from_weights(*make("encoder-decoder")), TOKENS), "encoder-decoder two"),
        (lambda: module.prune_heads(model, 4), "at most the model's 3, got 4"),
        (lambda: module.prune_neurons(model, 27), "at most the model's 26, got 27"),
        (lambda: module.prune_layers(model, [2]), "from 0 to 1"),
        (lambda: module.prune_layers(model, [0, 0]), "different numbers"),
        (lambda: module.prune_layers(model, [0, 1]), "at least one of 2 layers must stay"),
        (lambda: module.pool_kv_heads(model, 2), "must divide the 3 key/value heads"),
        (lambda: module.prune_neurons(module.quantize(model), 3), "quantised model cannot be pruned"),
        (lambda: module.prune_heads(module.from_weights(*make(positions="alibi")), 1), "alibi"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
