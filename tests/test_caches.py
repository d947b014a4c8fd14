"""Caches of every kind: rewound, reordered, in a ring, in 8 bits, in 4 bits (see test_int4_cache.py for those)."""

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor, to_float
from tfguide import cost

TOKENS = np.random.default_rng(1).integers(0, 37, (3, 17))
SPLITS = [(17,), (1,) * 17, (3, 1, 9, 4), (11, 1, 1, 4)]


def make(name, **changes):
    config = small_config(**{"positions": "rotary", "n_kv_heads": 2, **changes})
    weights = random_weights(config)
    return load(name).from_weights(config, weights), ref.from_weights(config, weights)


def read(name, model, cache, split, tokens=TOKENS):
    parts, start = [], 0
    for size in split:
        parts.append(numpy(model(tensor(name, tokens[:, start : start + size]), cache=cache)))
        start += size
    return np.concatenate(parts, axis=1)


def caches(module, config, rows=3):
    return {
        "plain": module.KVCache(config, rows, 19),
        "8 bits": module.QuantizedKVCache(config, rows, 19),
        "4 bits": module.Int4KVCache(config, rows, 19),
        "ring": module.SlidingCache(config, rows, 19),
    }


@pytest.mark.parametrize("kind", ["plain", "8 bits", "4 bits", "ring"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_forgotten_leaves_no_trace(name, kind):
    model, _ = make(name)
    clean, used = (caches(load(name), model.config)[kind] for _ in range(2))
    read(name, model, used, (5, 6))
    used.rewind(np.array([5, 5, 5]))
    read(name, model, used, (4,), TOKENS[::-1].copy())
    used.rewind(3)
    read(name, model, clean, (3,))
    rest = TOKENS[:, 3:]
    np.testing.assert_allclose(
        read(name, model, used, (2, 12), rest), read(name, model, clean, (2, 12), rest), atol=1e-6
    )
    assert numpy(used.lengths).tolist() == [17] * 3


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_are_rewound_each_to_its_own_length(name):
    model, reference = make(name)
    cache = load(name).KVCache(model.config, 3, 19)
    read(name, model, cache, (9,))
    cache.rewind(np.array([9, 4, 0]))
    logits = numpy(model(tensor(name, TOKENS[:, 10:12]), cache=cache))
    for row, length in enumerate([9, 4, 0]):
        text = np.concatenate([TOKENS[row, :length], TOKENS[row, 10:12]])[None]
        np.testing.assert_allclose(logits[row], reference(text)[0, -2:], atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_cannot_be_rewound_to_what_it_never_held(name):
    model, _ = make(name)
    for cache in caches(load(name), model.config).values():
        read(name, model, cache, (5,))
        for lengths in (6, -1, np.array([5, 6, 5])):
            with pytest.raises(ValueError, match="between 0 and what it holds"):
                cache.rewind(lengths)
        with pytest.raises(TypeError, match="integers"):
            cache.rewind(2.5)
        assert numpy(cache.lengths).tolist() == [5] * 3


def windowed(reference, tokens, window, n_sinks):
    """The reference under the mask of a ring with sinks, by way of its own attention: one position at a time."""
    config = reference.config
    T = tokens.shape[1]
    query, key = np.arange(T)[:, None], np.arange(T)[None]
    visible = (key <= query) & ((query - key < window) | (key < n_sinks))
    x = reference.embedding(tokens, np.arange(T)[None])
    from tfguide.frequencies import rotary_frequencies
    from tfguide.reference.positions import rotary_angles

    rotation = rotary_angles(np.arange(T)[None], rotary_frequencies(config.d_head, config.rope_theta, None))
    for layer in reference.decoder.layers:
        x = layer(x, visible, None, rotation)
    return reference.logits(reference.decoder.final_norm(x))


@pytest.mark.parametrize("split", SPLITS, ids=str)
@pytest.mark.parametrize(("window", "n_sinks"), [(5, 0), (4, 2), (1, 0), (1, 3), (30, 0)])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_ring_is_attention_under_a_mask(name, window, n_sinks, split):
    model, reference = make(name)
    cache = load(name).SlidingCache(model.config, 3, window, n_sinks)
    want = windowed(reference, TOKENS, window, n_sinks)
    np.testing.assert_allclose(read(name, model, cache, split), want, atol=1e-5)
    assert cache.nbytes == 2 * 2 * 3 * (window + n_sinks) * 2 * 10 * 4


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_ring_of_the_models_own_window_is_the_model(name):
    for positions in ("rotary", "alibi", "learned", "none", "relative"):
        model, reference = make(name, positions=positions, sliding_window=4)
        cache = load(name).SlidingCache(model.config, 3, 4)
        np.testing.assert_allclose(read(name, model, cache, (3, 7, 1, 6)), reference(TOKENS), atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_padding_pushes_nothing_out_of_a_ring(name):
    model, _reference = make(name)
    module = load(name)
    prompts = [TOKENS[0, :9].tolist(), [5], TOKENS[2, :6].tolist()]
    together = module.generate(model, prompts, 8, [], cache=module.SlidingCache(model.config, 3, 4, 1))
    for prompt, row in zip(prompts, together, strict=True):
        assert module.generate(model, [prompt], 8, [], cache=module.SlidingCache(model.config, 1, 4, 1)) == [row]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_ring_says_what_it_has_lost(name):
    model, _ = make(name)
    module = load(name)
    cache = module.SlidingCache(model.config, 3, 4, 1)
    read(name, model, cache, (9,))
    cache.rewind(8)
    with pytest.raises(ValueError, match="overwritten"):
        cache.rewind(6)
    with pytest.raises(ValueError, match="sliding_window=4 of its own"):
        module.SlidingCache(model.config.replace(sliding_window=4), 1, 5)
    with pytest.raises(ValueError, match="window must be at least 1"):
        module.SlidingCache(model.config, 1, 0)
    with pytest.raises(ValueError, match="max_positions=31"):
        for _ in range(5):
            read(name, model, cache, (7,))


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_8_bits_are_wrong_by_half_a_scale_at_most(name):
    model, _reference = make(name)
    plain, quantized = (caches(load(name), model.config)[kind] for kind in ("plain", "8 bits"))
    exact = read(name, model, plain, (17,))
    near = read(name, model, quantized, (17,))
    keys, integers = numpy(plain.keys[0])[:, :17], numpy(quantized.keys[0])[:, :17]
    scales = numpy(quantized.key_scales[0])[:, :17, :, None]
    assert np.abs(keys - integers * scales).max() > 0
    assert (np.abs(keys - integers * scales) <= np.abs(keys).max(axis=-1, keepdims=True) / 254 * (1 + 1e-5)).all()
    assert 0 < np.abs(near - exact).max() < 0.02 * np.abs(exact).max()
    d = model.config.d_head
    assert quantized.nbytes / plain.nbytes == (d + 4) / (4 * d)


@pytest.mark.parametrize("kind", ["plain", "8 bits", "4 bits", "ring"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_change_places(name, kind):
    model, _ = make(name)
    cache = caches(load(name), model.config)[kind]
    read(name, model, cache, (5,))
    order = np.array([2, 0, 2])
    cache.reorder(order)
    other = caches(load(name), model.config)[kind]
    read(name, model, other, (5,), TOKENS[order])
    rest = TOKENS[:, 5:7]
    np.testing.assert_allclose(read(name, model, cache, (2,), rest), read(name, model, other, (2,), rest), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_may_be_named_by_type(name, dtype):
    cache = load(name).KVCache(small_config(), 2, 5, dtype)
    assert dtype in str(cache.keys[0].dtype)
    assert cache.nbytes == 2 * 2 * 2 * 5 * 6 * 10 * 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_cache_takes_a_storage_of_its_size(name):
    """8 bits in a ring: what is kept of a position and how it is kept are two things."""
    module = load(name)
    model, reference = make(name)
    storage = module.QuantizedStorage(model.config, 3, 4 + 1)
    cache = module.SlidingCache(model.config, 3, 4, 1, storage=storage)
    near = read(name, model, cache, (3, 9, 1, 4))
    want = windowed(reference, TOKENS, 4, 1)
    assert 0 < np.abs(near - want).max() < 0.02 * np.abs(want).max()
    assert cache.nbytes == storage.nbytes == 2 * 2 * 3 * 5 * 2 * (10 + 4)
    for wrong in (module.Storage(model.config, 3, 4), module.Storage(make(name, n_kv_heads=1)[0].config, 3, 5)):
        with pytest.raises(ValueError, match=r"the storage must have 2 tensors 'key' of shape \(3, 5, 2, 10\)"):
            module.SlidingCache(model.config, 3, 4, 1, storage=wrong)
    with pytest.raises(ValueError, match=r"of shape \(3, 7, 2, 10\), got \[\(3, 5, 2, 10\)\]"):
        module.KVCache(model.config, 3, 7, storage=storage)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_attention_layer_names_what_it_caches(name):
    model, _ = make(name)
    attention = model.decoder.layers[0].self_attention
    assert attention.cached == model.config.cached == {"key": (2, 10), "value": (2, 10)}
    parts = attention.keys_values(tensor(name, np.zeros((3, 5, 22))))
    assert [tuple(part.shape) for part in parts] == [(3, 5, *shape) for shape in attention.cached.values()]


@pytest.mark.parametrize("kind", ["plain", "8 bits", "4 bits", "ring"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_rows_that_are_not_there_are_refused(name, kind):
    cache = caches(load(name), small_config(n_kv_heads=2))[kind]
    for rows in ([3], [-1], [[0]], []):
        with pytest.raises((ValueError, TypeError), match="rows must be"):
            cache.reorder(np.array(rows))
    with pytest.raises(TypeError, match="rows must be integers, got float64"):
        cache.reorder(np.array([0.5]))


BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
TYPES = {name: name for name in BYTES} | {"int4": "uint8"}  # of the tensors of each type of cache
MAKERS = ["plain", "fast", "compiled"]


def version(name, model, kind, max_length=19, batch=3):
    module = load(name)
    if kind == "fast":
        return module.accelerate(model)
    return module.CompiledDecoder(model, max_length, batch) if kind == "compiled" else model


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_model_makes_a_cache_of_any_type(name, kind):
    model, _ = make(name, d_model=72, d_ff=40, d_head=8)
    for quantize, own in ((None, "float32"), ((8, 8), "float16"), ((8, None), "float16"), ((4, 8), "float16")):
        one = model if quantize is None else load(name).quantize(model, *quantize, group_size=8)
        one = version(name, one, kind)
        for asked in (*TYPES, None):
            cache = one.new_cache(3, 19, asked)
            dtype = asked or own
            assert TYPES[dtype] in str(cache.keys[0].dtype) and TYPES[dtype] in str(cache.values[1].dtype)
            vectors = 2 * 2 * 3 * 19 * 2  # keys and values of two layers
            if dtype != "int4":
                assert cache.nbytes == vectors * (8 * BYTES[dtype] + (4 if dtype == "int8" else 0))
            assert cache.nbytes == cost.cache_bytes(model.config, 3, 19, dtype)
            assert isinstance(cache, load(name).QuantizedKVCache) == (dtype == "int8") == (cache.key_scales is not None)
            assert isinstance(cache, load(name).Int4KVCache) == (dtype == "int4")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_cache_of_a_model_of_16_bits_has_its_type(name, dtype):
    config = small_config(positions="rotary", d_model=72, d_ff=40)
    model = load(name).from_weights(config, random_weights(config), dtype)
    for one in (model, load(name).quantize(model, 8, 8)):
        for kind in MAKERS:
            assert dtype in str(version(name, one, kind).new_cache(3, 19).keys[0].dtype)
        for asked in TYPES:  # a cache may be wider or narrower than the activations
            cache = one.new_cache(3, 19, asked)
            want = load(name).to_weights(one) if one is model else None
            got = to_float(one(tensor(name, TOKENS), cache=cache))
            if want is not None:
                exact = ref.from_weights(config, want)(TOKENS)
                assert np.abs(got - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_type_that_no_cache_has_is_refused(name, kind):
    model, _ = make(name)
    one, module = version(name, model, kind), load(name)
    for asked, error in (("int2", ValueError), ("float64", ValueError), ("fp16", ValueError), (16, TypeError)):
        with pytest.raises(
            error, match="cache_dtype must be one of 'float32', 'bfloat16', 'float16', 'int8', 'int4', got"
        ):
            one.new_cache(3, 19, asked)
    cache = one.new_cache(3, 19)
    for call in (
        lambda: module.generate(one, TOKENS[:, :5], 3, cache=cache, cache_dtype="float16"),
        lambda: list(module.stream(one, TOKENS[0, :5], 3, cache=one.new_cache(3, 19), cache_dtype="float32")),
    ):
        with pytest.raises(ValueError, match=r"expected cache or cache_dtype='float.*', got both"):
            call()
    with pytest.raises(ValueError, match="the storage of an 8-bit cache must be int8, got"):
        module.QuantizedKVCache(model.config, 3, 7, storage=module.Storage(model.config, 3, 7))


@pytest.mark.parametrize("cache_dtype", TYPES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_generation_takes_a_type(name, cache_dtype):
    """Each function that makes a cache: its result is that of a cache made by hand."""
    model, _ = make(name)
    weights = load(name).to_weights(model)
    weights["embedding.token.weight"] *= 50  # no two tokens are nearly equal
    module, prompts = load(name), [[5, 3, 2, 11, 7], [13], [17, 19, 23]]
    model = module.from_weights(model.config, weights)
    made = []

    class Watched(type(model)):
        def new_cache(self, *arguments):
            made.append(super().new_cache(*arguments))
            return made[-1]

    want = module.generate(model, prompts, 6, [], cache=model.new_cache(3, 10, cache_dtype))
    model.__class__ = Watched
    assert module.generate(model, prompts, 6, [], cache_dtype=cache_dtype) == want
    assert list(module.stream(model, prompts[0], 6, [], cache_dtype=cache_dtype)) == want[0]
    assert module.speculative_generate(model, model, prompts, 6, 3, [], cache_dtype=cache_dtype).tokens == want
    beams = module.beam_search(model, prompts, 1, 6, [], cache_dtype=cache_dtype)
    assert [list(found.tokens) for (found,) in beams] == want
    assert len(made) == 1 + 1 + 2 * 3 + 3
    assert all(TYPES[cache_dtype] in str(cache.keys[0].dtype) for cache in made)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_encoder_decoder_keeps_its_own_positions_in_any_type(name):
    model, _ = make(name, kind="encoder-decoder", positions="relative", n_encoder_layers=2)
    module, sources = load(name), [[5, 3, 2, 11, 7], [13]]
    want = module.generate(model, sources, 5, [])
    for dtype in TYPES:
        assert len(module.generate(model, sources, 5, [], cache_dtype=dtype)[0]) == 5
    assert module.generate(model, sources, 5, [], cache_dtype="float32") == want


@pytest.mark.slow
@pytest.mark.parametrize("cache_dtype", TYPES)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_compiled_step_reads_each_type(name, cache_dtype):
    model, _ = make(name)
    weights = load(name).to_weights(model)
    weights["embedding.token.weight"] *= 50
    module, prompts = load(name), [[5, 3, 2, 11, 7], [13], [17, 19, 23]]
    model = module.from_weights(model.config, weights)
    compiled = module.CompiledDecoder(model, 12, 3)
    want = module.generate(model, prompts, 7, [], cache_dtype=cache_dtype)
    assert compiled.generate(prompts, 7, [], cache_dtype=cache_dtype) == want
    assert module.generate(compiled, prompts, 7, [], cache_dtype=cache_dtype) == want


@pytest.mark.parametrize("kind", ["plain", "fast", "compiled"])
@pytest.mark.parametrize("part", ["key", "value"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_float16_cannot_hold_is_no_silent_infinity(name, part, kind):
    """A key of minus infinity would give its position a weight of 0: the wrong text, and no error."""
    config = small_config(n_layers=1, positions="none", attention_scale=1e-5)
    weights = tfguide.init_weights(config)
    x = weights["embedding.token.weight"]
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)  # what the first norm returns
    column = -80000 * x[7] / config.d_model
    assert (np.abs(x @ column) > 65504).tolist() == [token == 7 for token in range(37)]
    weights[f"decoder.layers.0.self_attention.{part}.weight"][:, 3] = column
    weights["decoder.layers.0.self_attention.query.weight"][:, 3] = 0
    weights["decoder.layers.0.self_attention.query.bias"][3] = 1  # so that every score of token 7 is negative
    module = load(name)
    model = module.from_weights(config, weights)
    one = version(name, model, kind, 9, 1)
    want = module.generate(model, [[7, 2, 3]], 5, [])
    for holds in ("float32", "bfloat16", "int8"):
        assert len(module.generate(one, [[7, 2, 3]], 5, [], cache_dtype=holds)[0]) == 5
    assert module.generate(one, [[7, 2, 3]], 5, [], cache_dtype="float32") == want
    for holds in ("float16", "int4"):
        with pytest.raises(ValueError, match="the logits hold NaN"):
            module.generate(one, [[7, 2, 3]], 5, [], cache_dtype=holds)
