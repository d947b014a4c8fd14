"""The gradient of a loss with respect to every weight: equal in both frameworks, and that of the reference."""

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import batch, load, random_weights, small_config
from tfguide import Experts, LatentAttention, weight_shapes
from tfguide.tensorflow.weighted import variable_of
from tfguide.weights import weight_table

tf = pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")

CASES = [
    dict(kind="encoder", positions="learned", norm_placement="post", activation="gelu", n_token_types=3,
         embedding_norm=True),
    dict(kind="encoder", positions="alibi", norm="rms", activation="geglu"),
    dict(kind="decoder", positions="rotary", norm="rms", activation="swiglu", n_kv_heads=3, tied_head=False),
    dict(kind="decoder", positions="sinusoidal", norm_placement="parallel", activation="gelu_tanh", n_kv_heads=1,
         norm_bias=False),
    dict(kind="decoder", positions="relative", activation="relu", sliding_window=3),
    dict(kind="encoder-decoder", positions="relative", norm="rms", activation="geglu_tanh", attention_scale=1.0),
    dict(kind="encoder-decoder", positions="sinusoidal", norm_placement="post", activation="relu"),
    dict(kind="decoder", positions="none", activation="swiglu",
         experts=Experts(n_experts=5, per_token=3, d_expert=13, n_shared=1, router_bias=True, clamp=0.7)),
    dict(kind="decoder", positions="alibi", norm="rms", d_head=None,
         latent=LatentAttention(kv_rank=17, d_nope=3, d_rope=4, d_value=5, query_rank=13)),
]  # fmt: skip


def loss_target(config, shape):
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def torch_gradients(config, weights, inputs, masks, target):
    model = load("torch").from_weights(config, weights)
    ((model(*inputs, **masks) - torch.from_numpy(target)) ** 2).mean().backward()
    gradients = {}
    for name in weight_shapes(config):
        parameter = model.get_parameter(name)
        gradient = parameter.grad.numpy()
        gradients[name] = gradient.swapaxes(-2, -1) if weight_table(config)[name].is_matrix else gradient
    return gradients


def tensorflow_gradients(config, weights, inputs, masks, target):
    model = load("tensorflow").from_weights(config, weights)
    variables = {name: variable_of(model, name).value for name in weight_shapes(config)}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(*inputs, **masks) - target) ** 2)
    gradients = tape.gradient(loss, list(variables.values()))
    return {name: tf.convert_to_tensor(g).numpy() for name, g in zip(variables, gradients, strict=True)}


@pytest.mark.parametrize("fields", CASES, ids=lambda fields: f"{fields['kind']}-{fields['positions']}")
def test_gradients_are_equal(fields):
    config = small_config(**fields)
    weights = random_weights(config)
    inputs, masks = batch(config)
    expected = ref.forward(config, weights, *inputs, **masks)
    target = loss_target(config, expected.shape)
    ours = torch_gradients(config, weights, inputs, masks, target)
    theirs = tensorflow_gradients(config, weights, inputs, masks, target)
    assert ours.keys() == theirs.keys() == weight_shapes(config).keys()
    for name, gradient in ours.items():
        size = max(np.abs(gradient).max(), np.abs(theirs[name]).max())
        # A key bias shifts a row's scores by one number: its gradient is 0, and what is left is rounding.
        floor = 1e-6 * np.abs(ours["embedding.token.weight"]).max()
        assert np.abs(gradient - theirs[name]).max() <= 1e-4 * size + floor, name
        assert np.isfinite(gradient).all()
        if "key.bias" not in name:
            assert size > floor, f"no gradient reaches {name}"


@pytest.mark.parametrize("fields", CASES[:1] + CASES[2:3] + CASES[5:6] + CASES[-1:], ids=lambda fields: fields["kind"])
def test_gradients_are_those_of_the_reference(fields):
    config = small_config(**fields)
    weights = random_weights(config)
    inputs, masks = batch(config)
    target = loss_target(config, ref.forward(config, weights, *inputs, **masks).shape)
    gradients = torch_gradients(config, weights, inputs, masks, target)
    stream = np.random.default_rng(11)
    for name in stream.choice(sorted(weights), 8, replace=False):
        direction = stream.normal(size=weights[name].shape)
        losses = []
        for step in (1e-5, -1e-5):
            moved = {**weights, name: weights[name].astype(np.float64) + step * direction}
            losses.append(np.mean((ref.forward(config, moved, *inputs, **masks) - target) ** 2))
        slope = (losses[0] - losses[1]) / 2e-5
        assert np.sum(gradients[name] * direction) == pytest.approx(slope, rel=1e-3, abs=1e-5), name
