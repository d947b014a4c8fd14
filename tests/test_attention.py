"""Attention against a loop, its invariants over random shapes and masks, and the frameworks' own layers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor

IMPLEMENTATIONS = ("reference", *FRAMEWORKS)
FORMULAS = (*IMPLEMENTATIONS, "torch-fused", "tensorflow-fused")
examples = settings(max_examples=25, deadline=None, derandomize=True)


def attend(name, *arrays, **options):
    """Attention by an implementation; "...-fused" is the framework's own program for it."""
    name, _, fused = name.partition("-")
    tensors = [None if array is None else tensor(name, array) for array in arrays]
    attention = load(name).fused_attention if fused else load(name).scaled_dot_product_attention
    return numpy(attention(*tensors, **options))


def loop(query, key, value, visible, bias, scale):
    """The formula, one query of one head at a time, in float64."""
    B, T, H = query.shape[:3]
    S, K = key.shape[1:3]
    output = np.zeros((B, T, H, value.shape[3]))
    for b, t, h in np.ndindex(B, T, H):
        seen = [s for s in range(S) if visible[b, h, t, s]]
        if not seen:
            continue
        k = h // (H // K)
        scores = [scale * float(query[b, t, h] @ key[b, s, k]) + bias[b, h, t, s] for s in seen]
        weights = np.exp(np.array(scores) - max(scores))
        for s, weight in zip(seen, weights / weights.sum(), strict=True):
            output[b, t, h] += weight * value[b, s, k]
    return output


@st.composite
def problems(draw):
    """Query, key, value, a mask (B, H, T, S) and a bias, of random sizes, with rows that see nothing."""
    B, T, S = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    K, G = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    d, d_v = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    H = K * G
    numbers = st.floats(-3, 3, width=32)

    def array(*shape):
        return draw(hnp.arrays(np.float64, shape, elements=numbers))

    visible = draw(hnp.arrays(np.bool_, (B, H, T, S)))
    return array(B, T, H, d), array(B, S, K, d), array(B, S, K, d_v), visible, array(B, H, T, S)


@pytest.mark.parametrize("name", FORMULAS)
@examples
@given(problem=problems(), scale=st.sampled_from([None, 0.25, 1.0]))
def test_attention_is_the_formula(name, problem, scale):
    query, key, value, visible, bias = problem
    expected = loop(query, key, value, visible, bias, 1 / math.sqrt(query.shape[3]) if scale is None else scale)
    output = attend(name, query, key, value, visible, bias, scale=scale)
    np.testing.assert_allclose(output, expected, atol=1e-12 if name == "reference" else 3e-6)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@examples
@given(problem=problems())
def test_weights_are_distributions_over_the_visible(name, problem):
    query, key, _, visible, bias = problem
    weights = numpy(load(name).attention_weights(*(tensor(name, a) for a in (query, key, visible, bias))))
    assert (weights[~visible] == 0).all()
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(-1), visible.any(-1), atol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
@examples
@given(problem=problems())
def test_hidden_values_do_not_matter(name, problem):
    query, key, value, visible, bias = problem
    used = visible.reshape(visible.shape[0], key.shape[2], -1, *visible.shape[2:]).any(axis=(2, 3))  # (B, K, S)
    hidden = ~used.transpose(0, 2, 1)[..., None]  # (B, S, K, 1)
    other = attend(name, query, np.where(hidden, 2.5, key), np.where(hidden, -7.0, value), visible, bias)
    np.testing.assert_array_equal(attend(name, query, key, value, visible, bias), other)


@pytest.mark.parametrize("name", FORMULAS)
@examples
@given(problem=problems())
def test_grouped_heads_are_repeated_heads(name, problem):
    query, key, value, visible, bias = problem
    groups = query.shape[2] // key.shape[2]
    repeated = np.repeat(key, groups, axis=2), np.repeat(value, groups, axis=2)
    np.testing.assert_allclose(
        attend(name, query, key, value, visible, bias), attend(name, query, *repeated, visible, bias), atol=1e-6
    )


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@examples
@given(
    n_queries=st.integers(1, 9), more=st.integers(0, 9), window=st.one_of(st.none(), st.integers(1, 12))
)  # fmt: skip
def test_causal_masks_hide_the_future_and_the_far_past(name, n_queries, more, window):
    mask = numpy(load(name).causal_mask(n_queries, n_queries + more, window))
    for t, s in np.ndindex(n_queries, n_queries + more):
        position = more + t
        assert mask[t, s] == (s <= position and (window is None or position - s < window))


@pytest.mark.parametrize("name", FORMULAS)
def test_masks_of_two_three_and_four_axes(name):
    stream = np.random.default_rng(0)
    query, key, value = (stream.normal(size=size) for size in ((3, 5, 6, 7), (3, 4, 2, 7), (3, 4, 2, 7)))
    visible = stream.random((3, 6, 5, 4)) < 0.6
    for mask, full in (
        (visible[0, 0], np.broadcast_to(visible[0, 0], visible.shape)),
        (visible[:, 0], np.broadcast_to(visible[:, :1], visible.shape)),
        (visible[:, 0, :1], np.broadcast_to(visible[:, :1, :1], visible.shape)),
    ):
        np.testing.assert_array_equal(attend(name, query, key, value, mask), attend(name, query, key, value, full))
    bias = stream.normal(size=(6, 5, 4))
    np.testing.assert_allclose(
        attend(name, query, key, value, None, bias),
        attend(name, query, key, value, None, np.broadcast_to(bias, visible.shape)),
        atol=1e-6,
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_a_row_that_sees_nothing_is_zero(name):
    query, key, value = np.ones((1, 2, 1, 3)), np.ones((1, 2, 1, 3)), np.ones((1, 2, 1, 3))
    output = attend(name, query, key, value, np.array([[False, False], [True, False]]))
    assert (output[0, 0] == 0).all()
    assert (output[0, 1] == 1).all()


def test_a_row_that_sees_nothing_has_no_nan_in_its_gradient():
    import tensorflow as tf
    import torch

    visible = np.array([[False, False], [True, False]])
    array = np.random.default_rng(0).normal(size=(1, 2, 1, 3)).astype(np.float32)
    one = torch.tensor(array, requires_grad=True)
    load("torch").scaled_dot_product_attention(one, one, one, torch.tensor(visible)).sum().backward()
    other = tf.Variable(array)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(load("tensorflow").scaled_dot_product_attention(other, other, other, visible))
    gradient = tape.gradient(total, other).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(one.grad.numpy(), gradient, atol=1e-6)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_half_precision_takes_its_softmax_in_float32(name):
    """Scores of 2,000 and more overflow nothing, and many small weights still sum to 1."""
    stream = np.random.default_rng(3)
    query, key = stream.normal(size=(1, 1, 1, 8)), stream.normal(size=(1, 3000, 1, 8)) * 1e-3
    value = np.ones((1, 3000, 1, 8))
    if name == "torch":
        import torch

        half = [torch.tensor(a, dtype=torch.bfloat16) for a in (query, key, value)]
        weights = load(name).attention_weights(*half[:2])
        assert weights.dtype == torch.float32
        assert load(name).scaled_dot_product_attention(*half).dtype == torch.bfloat16
    else:
        import tensorflow as tf

        half = [tf.constant(a, tf.bfloat16) for a in (query, key, value)]
        weights = load(name).attention_weights(*half[:2])
        assert weights.dtype == tf.float32
        assert load(name).scaled_dot_product_attention(*half).dtype == tf.bfloat16
    assert abs(numpy(weights).sum() - 1) < 1e-5


def multi_head(name, arrays, d_model, n_heads, **options):
    """A layer with the given query, key, value and output matrices and biases."""
    layer = load(name).MultiHeadAttention(d_model, n_heads, **options)
    for part, (weight, bias) in zip(("query", "key", "value", "output"), arrays, strict=True):
        linear = getattr(layer, part)
        if name == "torch":
            linear.weight.data, linear.bias.data = tensor(name, weight.T), tensor(name, bias)
        elif name == "tensorflow":
            linear.set_weights([weight, bias])
        else:
            linear.weight, linear.bias = weight, bias
    return layer


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_multi_head_attention_is_that_of_pytorch_and_keras(name, cross):
    import keras
    import torch

    B, T, S, D, H = 3, 5, 7 if cross else 5, 12, 4
    stream = np.random.default_rng(7)
    arrays = [(stream.normal(size=(D, D)) / 3, stream.normal(size=D)) for _ in range(4)]
    x, memory = stream.normal(size=(B, T, D)), stream.normal(size=(B, S, D))
    memory = memory if cross else x
    visible = stream.random((T, S)) < 0.7
    visible[:, 0] = True  # the frameworks' layers do not say what they do with a row that sees nothing
    ours = multi_head(name, arrays, D, H)
    output = numpy(ours(tensor(name, x), *([tensor(name, memory)] if cross else []), visible=tensor(name, visible)))

    theirs = torch.nn.MultiheadAttention(D, H, batch_first=True)
    theirs.in_proj_weight.data = tensor("torch", np.concatenate([weight.T for weight, _ in arrays[:3]]))
    theirs.in_proj_bias.data = tensor("torch", np.concatenate([bias for _, bias in arrays[:3]]))
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = (
        tensor("torch", a) for a in (arrays[3][0].T, arrays[3][1])
    )
    inputs = [tensor("torch", a) for a in (x, memory, memory)]
    expected = numpy(theirs(*inputs, attn_mask=torch.from_numpy(~visible))[0])
    np.testing.assert_allclose(output, expected, atol=2e-6)

    theirs = keras.layers.MultiHeadAttention(H, D // H)
    inputs = [tensor("tensorflow", a) for a in (x, memory, memory)]
    theirs.build(*(a.shape for a in inputs))
    heads = [(weight.reshape(D, H, D // H), bias.reshape(H, D // H)) for weight, bias in arrays[:3]]
    query, key, value = heads
    theirs.set_weights([*query, *key, *value, arrays[3][0].reshape(H, D // H, D), arrays[3][1]])
    order = [w.path.split("/")[-2] for w in theirs.weights[::2]]
    assert order == ["query", "key", "value", "attention_output"]
    expected = numpy(theirs(inputs[0], inputs[2], inputs[1], attention_mask=visible[None]))
    np.testing.assert_allclose(output, expected, atol=2e-6)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_attention_map_of_a_layer_is_behind_its_output(name):
    stream = np.random.default_rng(1)
    arrays = [(stream.normal(size=(6, 6)), stream.normal(size=6)) for _ in range(4)]
    layer = multi_head(name, arrays, 6, 2)
    x = stream.normal(size=(1, 5, 6))
    visible = tensor(name, ref.causal_mask(5))
    weights = numpy(layer.attention_map(tensor(name, x), visible=visible))  # (B, H, T, S)
    value = (x @ arrays[2][0] + arrays[2][1]).reshape(1, 5, 2, 3)
    heads = np.einsum("bhts,bshd->bthd", weights, value).reshape(1, 5, 6)
    expected = numpy(layer(tensor(name, x), visible=visible))
    np.testing.assert_allclose(heads @ arrays[3][0] + arrays[3][1], expected, atol=3e-6)


@pytest.mark.parametrize("changes", [dict(positions="rotary", n_kv_heads=3), dict(positions="alibi"),
                                     dict(positions="relative", n_kv_heads=1), dict(sliding_window=3)])  # fmt: skip
def test_inference_by_the_fused_kernel_is_the_formula(changes):
    import torch

    config = small_config(**changes)
    model = load("torch").from_weights(config, random_weights(config))
    tokens = np.random.default_rng(0).integers(0, 37, (2, 13))
    valid = np.arange(13) < np.array([[13], [6]])
    fused = numpy(model(tokens, valid=valid))
    with torch.inference_mode():  # whether gradients are recorded does not choose the program
        np.testing.assert_allclose(numpy(model(tokens, valid=valid)), fused, atol=2e-7)
    for layer in model.decoder.layers:
        layer.self_attention.attention = load("torch").scaled_dot_product_attention
    formula = numpy(model(tokens, valid=valid))
    assert (fused != formula).any()  # two programs, or this compares one with itself
    np.testing.assert_allclose(fused, formula, atol=5e-6)
