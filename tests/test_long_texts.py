"""Attention of the kernels over several blocks of positions: any type of cache, any split, any mixture of rows."""

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights
from tfguide import native

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
LENGTH = 1152  # three blocks of 512
TOKENS = np.random.default_rng(0).integers(0, 37, (2, LENGTH))
# Half a unit in the last place of each type, times what two layers make of it.
ERRORS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2, "int8": 6e-2, "int4": 0.3}
VARIANTS = {
    "grouped heads": dict(n_heads=6, n_kv_heads=2),
    "one key head": dict(n_heads=8, n_kv_heads=1),
    "a window over two blocks": dict(sliding_window=600),
    "a window in a block": dict(sliding_window=9),
    "slopes": dict(positions="alibi"),
    "heads of an odd size": dict(positions="alibi", d_head=7, n_heads=3, n_kv_heads=1),
}


def make(name, **changes):
    fields = dict(positions="rotary", n_heads=4, d_model=40, d_head=10, d_ff=24, vocab_size=37, n_layers=2)
    config = tfguide.ModelConfig(kind="decoder", norm="rms", activation="swiglu", **{**fields, **changes})
    return load(name).from_weights(config, random_weights(config))


def in_pieces(fast, size, cache_dtype="float32", tokens=TOKENS):
    cache = fast.new_cache(len(tokens), LENGTH, cache_dtype)
    parts = [fast.score(tokens[:, at : at + size], cache) for at in range(0, tokens.shape[1], size)]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kernels_are_the_model(name, variant):
    model = make(name, **VARIANTS[variant])
    want, fast = model.score(TOKENS), load(name).accelerate(model)
    for size in (3, 31):  # few new tokens, whose blocks are divided among the threads; and many
        found = in_pieces(fast, size)
        assert abs(found - want).max() < ERRORS["float32"] * abs(want).max()


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("cache_dtype", ERRORS)
def test_every_type_of_cache(name, cache_dtype):
    model = make(name, n_heads=6, n_kv_heads=2)
    want = model.score(TOKENS)
    found = in_pieces(load(name).accelerate(model), 29, cache_dtype)
    error = abs(found - want).max() / abs(want).max()
    assert error < ERRORS[cache_dtype]
    assert cache_dtype == "float32" or error > 1e-5  # the cache is of that type


@pytest.mark.slow
@pytest.mark.parametrize("cache_dtype", ["float16", "int8"])
def test_no_result_depends_on_the_pieces_or_the_threads(cache_dtype):
    module = load("torch")
    model = module.quantize(make("torch", n_heads=6, n_kv_heads=2, d_model=48), 8, 8)
    whole = in_pieces(module.accelerate(model, threads=1), LENGTH, cache_dtype)
    steps = in_pieces(module.accelerate(model, threads=1), 1, cache_dtype)
    for size, threads, want in ((3, 3, steps), (7, 2, steps), (8, 2, whole), (100, 3, whole), (517, 2, whole)):
        found = in_pieces(module.accelerate(model, threads), size, cache_dtype, TOKENS[:1])
        np.testing.assert_array_equal(found, want[:1], err_msg=f"{size} tokens at a time, {threads} threads")
    np.testing.assert_allclose(whole, steps, atol=0.02 * abs(steps).max())


def test_a_step_takes_any_mixture_of_rows():
    """New tokens of three texts at once, 1, 20 and 3 of them, at positions of their own."""
    module = load("torch")
    model = module.quantize(make("torch", n_heads=6, n_kv_heads=2, d_model=48), 8, 8)
    tokens = np.random.default_rng(1).integers(0, 37, (3, 700))
    starts, counts = (600, 50, 300), (1, 20, 3)
    fast = module.accelerate(model, threads=2)
    want = []
    for text, start, count in zip(tokens, starts, counts, strict=True):
        cache = fast.new_cache(1, 700)
        fast.score(text[None, :start], cache)
        want.append(fast.hidden(text[None, start : start + count], cache=cache)[0].numpy())
    cache = fast.new_cache(3, 700)
    fast.score(tokens[:, :600], cache)
    cache.rewind(np.array(starts))
    new = np.concatenate([text[a : a + n] for text, a, n in zip(tokens, starts, counts, strict=True)])
    rows = np.random.default_rng(2).permutation(np.repeat([0, 1, 2], counts))  # the texts mixed, each in its order
    order = np.argsort(rows, kind="stable")
    mixed = np.empty_like(new)
    mixed[order] = new
    np.testing.assert_array_equal(fast.read_rows(mixed, rows, cache)[order], np.concatenate(want))
    assert cache.lengths.tolist() == [601, 70, 303]


@pytest.mark.parametrize("quantization", [None, (8, 8)])
def test_a_token_that_is_nan_reaches_only_those_that_see_it(quantization):
    """Weights of 0 times NaN are NaN: the tokens before it must not multiply its value."""
    module = load("torch")
    config = make("torch", tied_head=False).config
    weights = random_weights(config)
    weights["embedding.token.weight"][36] = np.nan
    model = module.from_weights(config, weights)
    fast = module.accelerate(module.quantize(model, *quantization) if quantization else model, threads=2)
    tokens = TOKENS[:1, :600] % 36
    broken = tokens.copy()
    broken[0, 560] = 36
    want, found = (in_pieces(fast, 60, "float16", text)[0] for text in (tokens, broken))
    np.testing.assert_allclose(found[:560], want[:560], atol=0.02 * abs(want).max())
    assert np.isnan(found[560:]).all()


@pytest.mark.parametrize(
    "tokens, rows, error",
    [
        ([1.0], [0], "tokens must be integers"), ([1], [0.0], "rows must be integers"), ([1], [3], "from 0 to 1"),
        ([37], [0], "37"), ([1, 2], [0], "one shape"), ([1] * 5, [1] * 5, "room for 6 positions: 2 are filled"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_change_nothing(tokens, rows, error):
    fast = load("torch").accelerate(make("torch"))
    cache = fast.new_cache(2, 6)
    fast.score(TOKENS[:, :2], cache)
    with pytest.raises((TypeError, ValueError), match=error):
        fast.read_rows(np.array(tokens), np.array(rows), cache)
    assert cache.lengths.tolist() == [2, 2]
