"""A paged cache gives what a dense one gives, in both frameworks and in the kernels, wherever its blocks lie."""

import importlib

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, refuses, small_config
from tfguide import Experts, LatentAttention, native
from tfguide.generation.paged import PagedCache
from tfguide.scalings import DynamicScaling

ROTARY = dict(positions="rotary", norm="rms", activation="swiglu", n_kv_heads=2)
MODELS = {
    "learned": dict(),
    "alibi": dict(positions="alibi"),
    "rotary": ROTARY,
    "window": dict(**ROTARY, sliding_window=5, sliding_layers=(1,), local_rope_theta=50.0, qk_norm=True),
    "sinks": dict(**ROTARY, attention_sinks=True, attention_softcap=2.0),
    "latent": dict(
        positions="rotary", norm="rms", activation="swiglu", d_head=None,
        latent=LatentAttention(kv_rank=17, d_nope=3, d_rope=4, d_value=5, query_rank=13, norm_eps=1e-4),
    ),
    "experts": dict(**ROTARY, experts=Experts(n_experts=5, per_token=2, d_expert=13)),
    "dynamic": dict(**ROTARY, rope_scaling=DynamicScaling(factor=3.0, original_max_positions=20)),
}  # fmt: skip
LENGTHS = np.array([40, 23, 9])
ROOM, N_BLOCKS = 64, 16
TOKENS = np.random.default_rng(0).integers(0, 37, (3, ROOM))


def make(framework, name, **changes):
    config = small_config(max_positions=1200, **MODELS[name] | changes)
    return load(framework).from_weights(config, random_weights(config))


def kinds(framework, model):
    """The model, and what the kernels make of it."""
    found = {"plain": model}
    if native.is_available():
        found["fast"] = load(framework).accelerate(model)
        found["8 bits"] = load(framework).accelerate(load(framework).quantize(model, 8, 8))
    return found


def spoil(cache):
    """Write NaN wherever the cache can keep one: what is read of it by mistake then shows."""
    for name, layers in cache.storage.tensors.items():
        for i, layer in enumerate(layers):
            if hasattr(layer, "fill_") and layer.is_floating_point():
                layer.fill_(float("nan"))
            elif isinstance(layer, np.ndarray) and layer.dtype.kind == "f":
                layer[:] = np.nan
            elif hasattr(layer, "assign") and layer.dtype.is_floating:
                layer.assign(layer * float("nan"))
            assert cache.storage.tensors[name][i] is layer


def paged(model, dtype="float32", n_rows=3, room=ROOM, block_size=16):
    """A cache whose rows have blocks in no order."""
    each = -(-room // block_size)
    cache = model.new_paged_cache(n_rows, n_rows * each + 4, block_size, room, dtype)
    order = np.random.default_rng(1).permutation(cache.n_blocks)
    for row in range(n_rows):
        cache.assign(row, order[row * each : (row + 1) * each].tolist())
    spoil(cache)
    return cache


def continued(model, cache):
    """Logits after prompts of three lengths and after each of 20 tokens more."""
    found = [model.prefill(TOKENS[:, :40], cache, LENGTHS)]
    found += [model.decode(TOKENS[:, 40 + i], cache) for i in range(20)]
    return np.stack(found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_gives_what_a_dense_cache_gives(framework, name, dtype):
    for kind, model in kinds(framework, make(framework, name)).items():
        want, got = (
            continued(model, cache)
            for cache in (model.new_cache(3, ROOM, dtype), paged(model, dtype))
        )  # fmt: skip
        if framework == "tensorflow" and kind == "fast":  # a graph reads the first prompt of a dense cache
            np.testing.assert_allclose(got, want, atol=2e-3 if dtype == "bfloat16" else 2e-4)
        elif name == "experts":  # padding chooses experts, too, and how many rows one has decides how it is rounded
            np.testing.assert_allclose(got, want, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, want, err_msg=kind)


@pytest.mark.parametrize("block_size", [16, 64, 512])
@pytest.mark.parametrize("changes", [dict(), dict(sliding_window=300), dict(d_head=32, n_heads=4)], ids=str)
def test_texts_of_several_blocks_of_the_kernels(block_size, changes):
    model = load("torch").accelerate(make("torch", "rotary", **changes))
    tokens = np.random.default_rng(2).integers(0, 37, (2, 1100))
    near = 1e-6 if changes.get("sliding_window") else 0  # a ring does not read padding: other rows in a product
    for dtype in ("float32", "int8"):
        caches = model.new_cache(2, 1150, dtype), paged(model, dtype, 2, 1150, block_size)
        calls = [lambda cache: model.prefill(tokens, cache, [1100, 530], chunk_size=32)]
        calls += [lambda cache, i=i: model.decode(tokens[:, i], cache) for i in range(3)]
        for call in calls:
            want, got = map(call, caches)
            np.testing.assert_allclose(got, want, rtol=0, atol=near)


@pytest.mark.parametrize("name", ["rotary", "latent", "dynamic"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_rows_may_have_any_number_of_new_tokens(framework, name):
    """Three prompts in parts, beside each other's tokens: the logits of each text alone, with 8 bits exactly."""
    calls = [{0: 13}, {0: 20, 1: 23}, {0: 7, 1: 1, 2: 9}, {0: 1, 1: 1, 2: 1}, {2: 1, 0: 1}]
    for kind, model in kinds(framework, make(framework, name)).items():
        cache = paged(model)
        for row, length in enumerate(LENGTHS):
            cache.assign(row, cache.tables[row].tolist(), 0, int(length))
        want = {}
        for row in range(3):
            own = model.new_cache(1, ROOM, "float32")
            want[row, LENGTHS[row] - 1] = model.prefill(TOKENS[row : row + 1, : LENGTHS[row]], own)[0]
            for place in range(LENGTHS[row], LENGTHS[row] + 3):
                want[row, place] = model.decode(TOKENS[row : row + 1, place], own)[0]
        seen = 0
        for call in calls:
            rows = np.concatenate([np.full(n, row) for row, n in call.items()])
            places = np.concatenate([cache.lengths[row] + np.arange(n) for row, n in call.items()])
            wanted = np.array([(row, place) in want for row, place in zip(rows, places, strict=True)])
            logits = model.decode_rows(TOKENS[rows, places], rows, cache, wanted, places < LENGTHS[rows])
            assert logits.shape == (wanted.sum(), 37) and logits.dtype == np.float32
            for key, got in zip(zip(rows[wanted], places[wanted], strict=True), logits, strict=True):
                if kind == "8 bits":
                    np.testing.assert_array_equal(got, want[key])
                np.testing.assert_allclose(got, want[key], atol=1e-4)
                seen += 1
        assert seen == 3 + 3 + 2 + 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_all_logits_of_a_prompt(framework):
    for model in kinds(framework, make(framework, "rotary")).values():
        tokens, wanted = TOKENS[0, :30], np.arange(30) % 2 == 1
        got = model.decode_rows(tokens, np.ones(30, int), paged(model), wanted, np.ones(30, bool))
        np.testing.assert_allclose(got, model.score(tokens[None])[0, wanted], atol=2e-3)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_rows_read_one_block(framework):
    """A text whose first block another row has filled goes on as if it had read it."""
    for model in kinds(framework, make(framework, "rotary")).values():
        cache, own = paged(model), model.new_cache(1, ROOM, "float32")
        first, rest = TOKENS[0, :16], TOKENS[1, :9]
        some, none = np.ones(16, bool), np.zeros(16, bool)
        model.decode_rows(first, np.zeros(16, int), cache, none, some)
        cache.assign(1, [int(cache.tables[0, 0]), *cache.tables[1, :2].tolist()], 16, 25)
        wanted = np.arange(9) == 8
        got = model.decode_rows(rest, np.ones(9, int), cache, wanted, np.ones(9, bool))
        want = model.prefill(np.concatenate([first, rest])[None], own)
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_it_works_without_a_framework_and_through_every_verb(tmp_path):
    model = make("torch", "rotary", d_model=24, d_head=None, qkv_bias=False, output_bias=False, ffn_bias=False)
    load("torch").save_checkpoint(model, tmp_path)
    kernels = native.load(tmp_path)
    want, got = (continued(kernels, cache) for cache in (kernels.new_cache(3, ROOM), paged(kernels)))
    np.testing.assert_array_equal(got, want)
    prompt = [TOKENS[0, :9].tolist()]
    assert tfguide.generation.generate(kernels, prompt, 8, cache=paged(kernels, n_rows=1)) == (
        tfguide.generation.generate(kernels, prompt, 8)
    )
    cache = paged(kernels, n_rows=1)
    whole = kernels.score(TOKENS[:1, :30], cache)
    cache.rewind(12)
    np.testing.assert_allclose(kernels.score(TOKENS[:1, 12:30], cache), whole[:, 12:], atol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_wrong_is_said(framework):
    model = make(framework, "rotary")
    for size in (0, 8, 24, 1024):
        with pytest.raises(ValueError, match=r"block_size must be (at least 1|a power of two from 16 to 512), got"):
            model.new_paged_cache(2, 4, size)
    with refuses(ValueError, "a paged cache keeps float32, bfloat16, float16 or int8, got int4"):
        model.new_paged_cache(2, 4, cache_dtype="int4")
    with refuses(ValueError, "n_blocks must be at least 1, got 0"):
        model.new_paged_cache(2, 0)
    endless = load(framework).from_weights(
        config := small_config(max_positions=None, **ROTARY), random_weights(config)
    )  # fmt: skip
    with refuses(ValueError, "the model has no limit of positions: expected max_length, got None"):
        endless.new_paged_cache(2, 4)
    cache = model.new_paged_cache(2, 4, 16, 40)
    assert cache.tables.shape == (2, 3) and cache.max_length == 40
    cache.assign(0, [2, 3])
    for blocks, length, message in (
        ([4], 0, "blocks must lie between 0 and 3, got [4]"),
        ([0, 1, 2, 3], 0, "a row has at most 3 blocks, got 4"),
        ([1], 17, "1 blocks hold 16 positions, got 17"),
    ):
        with refuses(ValueError, message):
            cache.assign(1, blocks, length)
    one, two, every = np.zeros(33, int), np.array([0, 1]), np.ones(33, bool)
    with refuses(ValueError, "row 0 has 2 blocks of 16 positions: 0 are filled, 33 more came"):
        model.decode_rows(TOKENS[0, :33], one, cache, every, every)
    with refuses(ValueError, "row 1 has 0 blocks of 16 positions: 0 are filled, 1 more came"):
        model.decode_rows(np.array([1, 2]), two, cache, every[:2], every[:2])
    assert cache.lengths.tolist() == [0, 0]
    cache.assign(0, [0, 1, 2], 39)
    with refuses(ValueError, "the cache has room for 40 positions: 39 are filled, 2 more came"):
        model.decode_rows(np.array([1, 2]), np.zeros(2, int), cache, every[:2], every[:2])
    with refuses(TypeError, "tokens must be integers, got float64"):
        model.decode_rows(np.array([1.0]), np.zeros(1, int), cache, every[:1], every[:1])
    with refuses(ValueError, "tokens must lie between 0 and 36, got 37"):
        model.decode_rows(np.array([37]), np.zeros(1, int), cache, every[:1], every[:1])
    with refuses(ValueError, "each from 0 to 1, got [2]"):
        model.decode_rows(np.array([1]), np.array([2]), cache, every[:1], every[:1])
    with refuses(ValueError, "the rows of a paged cache keep their blocks"):
        cache.reorder(np.array([0, 0]))
    storage = importlib.import_module(f"tfguide.{framework}").Storage(model.config, 5, 16)
    with refuses(ValueError, "of shape (4, 16, 2, 10)"):
        PagedCache(model.config, 2, 40, 4, 16, storage)
