"""Attention in tiles equals attention, and takes the memory of a tile."""

import tracemalloc

import numpy as np
import pytest

import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, tensor

ALL = ("reference", *FRAMEWORKS)


def inputs(T=7, S=13, H=6, K=3, d=5, seed=0):
    stream = np.random.default_rng(seed)
    return [stream.normal(size=(2, n, heads, d)) for n, heads in ((T, H), (S, K), (S, K))]


@pytest.mark.parametrize("tile", [1, 4, 13, 50])
@pytest.mark.parametrize("masked", ["no", "causal", "rows", "bias"])
@pytest.mark.parametrize("name", ALL)
def test_any_tile_gives_the_same(name, masked, tile):
    query, key, value = inputs()
    stream = np.random.default_rng(1)
    visible = {"no": None, "causal": ref.causal_mask(7, 13), "rows": stream.random((2, 7, 13)) < 0.4, "bias": None}[
        masked
    ]
    bias = stream.normal(size=(2, 6, 7, 13)) * 30 if masked == "bias" else None
    if masked == "rows":
        visible[1, 3] = False  # a query that sees nothing
    want = ref.scaled_dot_product_attention(query, key, value, visible, bias, 0.7)
    given = [x if x is None or name == "reference" else tensor(name, x) for x in (query, key, value, visible, bias)]
    got = numpy(load(name).tiled_attention(*given, 0.7, tile))
    np.testing.assert_allclose(got, want, atol=1e-12 if name == "reference" else 2e-6)
    if masked == "rows":
        assert (got[1, 3] == 0).all()


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_half_precision_is_summed_in_float32(name):
    query, key, value = inputs(S=600)
    given = [tensor(name, x) for x in (query, key, value)]
    if name == "torch":
        given = [x.bfloat16() for x in given]
    else:
        import tensorflow as tf

        given = [tf.cast(x, tf.bfloat16) for x in given]
    got = load(name).tiled_attention(*given)
    assert "bfloat16" in str(got.dtype)
    got = got.float().numpy() if name == "torch" else np.asarray(got, np.float32)
    np.testing.assert_allclose(got, ref.scaled_dot_product_attention(query, key, value), atol=0.01)


def test_it_runs_in_a_graph():
    import tensorflow as tf

    given = [tensor("tensorflow", x) for x in inputs()]
    for jit in (False, True):
        got = tf.function(load("tensorflow").tiled_attention, jit_compile=jit)(*given, tile=4)
        np.testing.assert_allclose(numpy(got), ref.scaled_dot_product_attention(*inputs()), atol=2e-6)


def peak_numpy(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def peak_torch(call):
    """The most bytes that live at once, by the allocator's own record."""
    import torch

    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    records = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(records, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak


def peak_xla(call):
    """The temporary buffers that XLA plans for the compiled call."""
    import re

    import tensorflow as tf

    compiled = tf.function(call, jit_compile=True)
    text = compiled.experimental_get_compiler_ir()(stage="optimized_hlo")
    sizes = [np.prod([int(n) for n in dims.split(",")]) * 4 for dims in re.findall(r"f32\[([\d,]+)\]", text)]
    return max(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_the_matrix_of_weights_is_never_in_memory(name):
    T, H = 512, 4
    given = [tensor(name, x) for x in inputs(T, T, H, H, 16)]
    module, measure = load(name), {"reference": peak_numpy, "torch": peak_torch, "tensorflow": peak_xla}[name]
    width = 8 if name == "reference" else 4
    matrix = 2 * H * T * T * width
    plain = measure(lambda: module.scaled_dot_product_attention(*given))
    tiled = measure(lambda: module.tiled_attention(*given, tile=32))
    assert plain >= matrix
    assert tiled < matrix / 2


@pytest.mark.parametrize("name", ALL)
def test_a_tile_holds_a_key_at_least(name):
    given = [tensor(name, x) for x in inputs()]
    with pytest.raises(ValueError, match="tile must be at least 1, got 0"):
        load(name).tiled_attention(*given, tile=0)
