"""Layers with a window keep a ring of positions: a cache with rings gives what one call over the whole text gives."""

import itertools

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, refuses, small_config
from tfguide import cost, native
from tfguide.cost.memory import cache_scale_bytes
from tfguide.generation.rings import layer_slots, ring_places, ring_positions, ring_slots

LENGTH = 700  # a ring has 512 slots
TOKENS = np.random.default_rng(0).integers(0, 37, (2, LENGTH))
WINDOWS = [
    dict(sliding_layers=(0,), local_rope_theta=50.0, qk_norm=True),
    dict(n_kv_heads=3),  # every layer
]


def make(name, **changes):
    config = small_config(
        positions="rotary", norm="rms", max_positions=2000, sliding_window=37, **{"n_kv_heads": 2} | changes
    )
    return load(name).from_weights(config, random_weights(config))


def test_slots_hold_the_window_and_what_the_kernels_write_before_they_attend():
    config = small_config(sliding_window=4096, sliding_layers=(1,), max_positions=None)
    assert ring_slots(config, 131072) == 4608 >= 4096 - 1 + native.decoder.abi.PASS_ROWS and 4608 % 512 == 0
    assert layer_slots(config, 131072) == [131072, 4608]
    assert ring_slots(config, 4608) is None and layer_slots(config, 4608) == [4608, 4608]
    assert ring_slots(small_config(max_positions=None), 131072) is None


def test_a_slot_has_the_newest_position_that_belongs_there():
    positions = ring_positions(np.array([0, 3, 8]), 5)
    assert positions.tolist() == [[-1] * 5, [0, 1, 2, -1, -1], [5, 6, 7, 3, 4]]
    rows, columns, slots = ring_places(np.array([3, 0]), np.array([7, 2]), 7, 5)
    assert rows.tolist() == [0] * 5 + [1] * 2
    assert columns.tolist() == [2, 3, 4, 5, 6, 0, 1] and slots.tolist() == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("changes", WINDOWS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_any_split_gives_what_one_call_gives(name, changes):
    model = make(name, **changes)
    whole = model.score(TOKENS)
    for one in (model, load(name).accelerate(model)):
        for split in ((0, 690), (0, 60, 64, 600, 690), (0, 500, 520, 690)):
            cache = one.new_cache(2, LENGTH)
            assert cache.ring == 512
            parts = [one.score(TOKENS[:, a:b], cache) for a, b in itertools.pairwise(split)]
            parts += [one.decode(TOKENS[:, t], cache)[:, None] for t in range(690, LENGTH)]
            np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_padding_overwrites_nothing_in_a_ring(name):
    """Rows of 640 and 9 tokens in one batch, in chunks: the next token of each is that of the row alone."""
    model, lengths = make(name, **WINDOWS[0]), np.array([640, 9])
    fast = load(name).accelerate(model)
    rounded = load(name).accelerate(load(name).quantize(model, 8, 8))
    for one, chunk in ((model, 100), (model, None), (fast, 100), (fast, None), (rounded, None), (rounded, 50)):
        cache = one.new_cache(2, LENGTH)
        got = [one.prefill(TOKENS[:, :640], cache, lengths, chunk_size=chunk), one.decode(TOKENS[:, 640], cache)]
        for row, length in enumerate(lengths):
            alone = one.new_cache(1, LENGTH)
            want = one.prefill(TOKENS[row : row + 1, :length], alone), one.decode(TOKENS[row : row + 1, 640], alone)
            for ours, theirs in zip(got, want, strict=True):
                np.testing.assert_allclose(ours[row], theirs[0], atol=1e-5 if one is not rounded else 0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "int4"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_bytes_are_those_of_the_cost_model(name, dtype):
    model = make(name, **WINDOWS[0])
    cache = model.new_cache(2, LENGTH, dtype)
    assert cache.nbytes == cost.cache_bytes(model.config, 2, LENGTH, dtype)
    whole = model.config.replace(sliding_layers=None, sliding_window=None, local_rope_theta=None)
    everywhere = cost.cache_bytes(whole, 2, LENGTH, dtype)
    saved = cost.kv_bytes_per_token(model.config, dtype, cache_scale_bytes(dtype, 10)) * (LENGTH - 512)  # of 2 rows
    assert everywhere - cache.nbytes == (saved if dtype != "int4" else 0)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_of_8_bits_reads_what_it_has_written(name):
    model = make(name, **WINDOWS[0])
    for one in (model, load(name).accelerate(model)):
        found = []
        for split in ((0, 690), (0, 650, 690)):
            cache = one.new_cache(2, LENGTH, "int8")
            found.append([one.score(TOKENS[:, a:b], cache) for a, b in itertools.pairwise(split)][-1][:, -5:])
            found[-1] = np.concatenate([found[-1], one.decode(TOKENS[:, 690], cache)[:, None]], axis=1)
        np.testing.assert_allclose(found[0], found[1], atol=1e-4)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_ring_goes_back_as_far_as_it_holds_what_is_needed(name):
    model = make(name, **WINDOWS[0])
    whole = model.score(TOKENS)
    for one in (model, load(name).accelerate(model)):
        cache = one.new_cache(2, LENGTH)
        one.prefill(TOKENS[:, :680], cache)
        with refuses(ValueError, "row 0 cannot go back from 680 to 150: a layer with a window of 37 has room for 512"):
            cache.rewind(150)
        cache.rewind(np.array([640, 230]))
        cache.reorder(np.array([1, 0, 1]))
        tokens = np.array([TOKENS[1, 230], TOKENS[0, 640], TOKENS[1, 230]])
        got = one.decode(tokens, cache)
        np.testing.assert_allclose(got, np.stack([whole[1, 230], whole[0, 640], whole[1, 230]]), atol=1e-5)
        with refuses(ValueError, "row 0 cannot go back from 231 to 200: a layer"):  # what came after 231 is still there
            cache.rewind(np.array([200, 641, 231]))
        cache.rewind(0)
        np.testing.assert_allclose(one.prefill(TOKENS[[1, 0, 1], :9], cache), whole[[1, 0, 1], 8], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", WINDOWS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_compiled_step_reads_rings(name, changes):
    module, model = load(name), make(name, **changes)
    prompts = [TOKENS[0, :660].tolist()]
    compiled = module.CompiledDecoder(model, LENGTH)
    assert compiled.generate(prompts, 12) == module.generate(model, prompts, 12)


def test_without_a_framework(tmp_path):
    model = make("torch", qkv_bias=False, output_bias=False, ffn_bias=False, activation="swiglu", tied_head=False)
    load("torch").save_checkpoint(model, tmp_path)
    alone = native.load(tmp_path)
    assert alone.config.sliding_window == 37
    cache = alone.new_cache(2, LENGTH)
    got = [alone.score(TOKENS[:, :650], cache), alone.score(TOKENS[:, 650:], cache)]
    assert cache.ring == 512 and cache.keys[0].shape == (2, 512, 2, 10)
    np.testing.assert_allclose(np.concatenate(got, axis=1), model.score(TOKENS), atol=1e-5)
    tfguide.generation.generate(alone, TOKENS[:, :600].tolist(), 4)
