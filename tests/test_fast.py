"""The fast decoder is the model: every architecture, type and quantisation, any split of the text, and its errors."""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor, to_float
from tfguide import native
from tfguide.config import ACTIVATIONS, POSITIONS

TOKENS = np.random.default_rng(0).integers(0, 37, (2, 23))
SPLITS = ((0, 4), (4, 5), (5, 23))  # few tokens, one of each row, and many
SCALING = tfguide.RopeScaling(factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=24)
EXPERTS = tfguide.Experts(n_experts=5, per_token=2, d_expert=24, n_shared=1, n_dense_layers=1, router_bias=True)
LATENT = tfguide.LatentAttention(kv_rank=40, d_nope=5, d_rope=6, d_value=12, query_rank=24, norm_eps=1e-3)
VARIANTS = [
    dict(experts=EXPERTS, activation="geglu", norm_placement="post"),
    *(dict(positions=positions) for positions in POSITIONS if positions != "relative"),
    *(dict(activation=activation, norm="rms") for activation in ACTIVATIONS),
    dict(norm_placement="post", positions="rotary"),
    dict(norm_placement="parallel", positions="rotary", n_kv_heads=3),
    dict(n_kv_heads=2, positions="rotary", sliding_window=5, embedding_norm=True, n_token_types=2, tied_head=False),
    dict(n_kv_heads=1, qkv_bias=False, ffn_bias=False, output_bias=False, embedding_scale=3.0, logit_scale=0.5),
    dict(norm_eps=0.1, norm_bias=False),
    dict(positions="learned", position_offset=3, output_bias=False, ffn_bias=False),
    dict(positions="rotary", rope_scaling=SCALING),
    dict(
        positions="rotary", norm="rms", norm_placement="both", qk_norm=True, attention_softcap=1.5, logit_softcap=2.0,
        n_kv_heads=2, sliding_window=5, sliding_layers=(1,), local_rope_theta=20.0,
    ),
    dict(attention_sinks=True, residual_scale=0.7, n_kv_heads=3, sliding_window=5, sliding_layers=(0,)),
    dict(norm_placement="parallel", residual_scale=0.7, qk_norm=True, attention_sinks=True),
    dict(positions="rotary", rope_scaling=tfguide.YarnScaling(factor=4.0, original_max_positions=90), d_rotary=6),
    dict(
        latent=LATENT, d_head=None, positions="rotary", norm="rms", sliding_window=5, sliding_layers=(1,),
        rope_scaling=tfguide.YarnScaling(factor=4.0, original_max_positions=90, attention_factor=1.2),
    ),
    dict(d_model=96, d_ff=160, d_head=32, attention_scale=0.3, positions="rotary", rope_theta=500.0),
]  # fmt: skip

SIZES = {"kind", "d_model", "n_layers", "n_heads", "d_head", "d_ff", "vocab_size", "max_positions"}  # of `small_config`
# In no model of the kernels.
ELSEWHERE = {"d_input", "labels", "n_encoder_layers", "pooler", "relative_buckets", "relative_max_distance"}
NO_EFFECT = {"dropout", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"}  # on the logits


def test_every_field_is_tried():
    """The kernels pass over a field that they do not know: a new one is tried above, or refused by `native.check`."""
    tried = set().union(*VARIANTS)
    fields = {field.name for field in dataclasses.fields(tfguide.ModelConfig)}
    assert fields == tried | SIZES | ELSEWHERE | NO_EFFECT


def make(name, dtype="float32", quantization=None, **changes):
    config = small_config(**changes)
    weights = random_weights(config)
    model = load(name).from_weights(config, weights, dtype)
    if quantization:
        model = load(name).quantize(model, *quantization, group_size=8)
    return model, weights


def pieces(name, model, splits=SPLITS, cache_dtype=None):
    """The logits of TOKENS read piece by piece into a cache."""
    cache = model.new_cache(len(TOKENS), TOKENS.shape[1], cache_dtype)
    parts = [model(tensor(name, TOKENS[:, a:b]), cache=cache) for a, b in splits]
    return np.concatenate([to_float(part) for part in parts], axis=1)


@pytest.mark.parametrize("quantization", [None, (8, 8), (4, 8)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_its_matrices_begin_at_a_cache_line(name, dtype, quantization, monkeypatch):
    """A load of 64 bytes would read two cache lines."""
    found = []
    monkeypatch.setattr(native.decoder, "use_huge_pages", lambda address, n_bytes: found.append(address % 64))
    model, _ = make(name, dtype, quantization, d_model=72, d_ff=40, d_head=8)
    load(name).accelerate(model)
    assert len(found) >= 2 * 6 and not any(found)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_gives_the_logits_of_the_reference(name, changes):
    model, weights = make(name, **changes)
    want = ref.from_weights(model.config, weights)(TOKENS)
    for threads in (1, 2, 3):
        fast = load(name).accelerate(model, threads=threads)
        np.testing.assert_allclose(pieces(name, fast), want, atol=1e-5)
    more = np.concatenate([TOKENS, TOKENS])  # at once, more than the kernels take
    assert more.size > native.MAX_ROWS
    got = fast(tensor(name, more), cache=fast.new_cache(*more.shape))
    np.testing.assert_allclose(to_float(got), np.concatenate([want, want]), atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_weights_of_16_bits_are_read_as_they_are(name, dtype):
    """The kernels round the weights and the cache, nothing else: nearer to the truth than the model in that type."""
    changes = dict(positions="rotary", norm="rms", n_kv_heads=2, d_model=70, tied_head=False)
    model, weights = make(name, dtype, **changes)
    fast = load(name).accelerate(model)
    rounded = load(name).to_weights(model)
    want = ref.from_weights(model.config, rounded)(TOKENS)
    splits = [(a, a + 11) for a in range(0, 22, 11)]
    got = pieces(name, fast, [(a, b) for a, b in ((0, 7), (7, 8), (8, 15), (15, 23))])
    step = 2**-8 if dtype == "bfloat16" else 2**-11
    assert np.abs(got - want).max() < 8 * step * np.abs(want).max()
    assert splits
    exact = ref.from_weights(model.config, weights)(TOKENS)
    assert np.abs(to_float(model(tensor(name, TOKENS))) - exact).max() < 32 * step * np.abs(exact).max()


@pytest.mark.parametrize("quantization", [(8, None), (8, 8), (4, None), (4, 8)], ids=str)
@pytest.mark.parametrize("tied_head", [True, False])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_packed_weights_give_what_the_dequantised_ones_give(name, tied_head, quantization):
    sizes = dict(d_model=72, d_ff=40, d_head=8, tied_head=tied_head, positions="rotary")
    model, _ = make(name, quantization=quantization, **sizes)
    want = to_float(model(tensor(name, TOKENS)))
    fast = load(name).accelerate(model)
    got = pieces(name, fast, cache_dtype="float32")
    # An activation that lies between two integers may be rounded to either, and then others after it.
    assert np.abs(got - want).max() < (1e-5 if quantization[1] is None else 0.02) * np.abs(want).max()
    assert np.abs(got - want).mean() < 1e-3 * np.abs(want).mean()
    np.testing.assert_allclose(to_float(fast(tensor(name, TOKENS))), got, atol=0.02 * np.abs(want).max())


# What rounding the keys and values to a cache's type changes, of the largest logit.
CACHED = {"float32": 1e-5, "bfloat16": 4 * 2**-8, "float16": 4 * 2**-11, "int8": 8 / 254, "int4": 4 / 30}


@pytest.mark.parametrize("quantization", [None, (8, None), (8, 8), (4, 8)], ids=str)
@pytest.mark.parametrize("cache_dtype", [*CACHED, None])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_type_of_cache_serves_the_model_and_its_fast_version(name, cache_dtype, quantization):
    model, _ = make(name, quantization=quantization, d_model=72, d_ff=40, d_head=8, positions="rotary", n_kv_heads=2)
    fast = load(name).accelerate(model)
    exact = to_float(model(tensor(name, TOKENS)))
    plain, got = (pieces(name, one, cache_dtype=cache_dtype) for one in (model, fast))
    kind = cache_dtype or ("float32" if quantization is None else "float16")
    # Where activations have 8 bits, one that a rounded key moves to the next integer changes all that follow.
    bound = CACHED[kind] if quantization is None or quantization[1] is None else max(CACHED[kind], 0.02)
    assert np.abs(plain - exact).max() <= bound * np.abs(exact).max()
    assert np.abs(got - plain).max() <= bound * np.abs(exact).max()
    if kind != "float32":
        assert np.abs(plain - exact).max() > 1e-5 * np.abs(exact).max()  # it was rounded
        if quantization is None or quantization[1] is None:  # both round alike, but for a few sums in another order
            assert np.abs(got - plain).mean() < 0.25 * np.abs(plain - exact).mean()


@pytest.mark.parametrize("cache_dtype", CACHED)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_fast_cache_of_each_type_is_rewound_and_reordered(name, cache_dtype):
    model, _ = make(name, positions="rotary", n_kv_heads=2)
    fast = load(name).accelerate(model)

    def read(tokens, cache):
        return numpy(fast(tensor(name, tokens), cache=cache))

    used, clean = (fast.new_cache(2, 23, cache_dtype) for _ in range(2))
    read(TOKENS[:, :20], used)
    used.rewind(5)
    used.reorder(np.array([1, 1]))
    read(TOKENS[[1, 1], :5], clean)
    for part in (slice(5, 6), slice(6, 9), slice(9, 22)):
        got, want = (read(TOKENS[:, part], cache) for cache in (used, clean))
        np.testing.assert_allclose(got, want, atol=2 * CACHED[cache_dtype])
        assert used.keys[0].shape == clean.keys[0].shape and used.nbytes == clean.nbytes
        assert cache_dtype == "int4" or used.keys[0].shape == (2, 23, 2, 10)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_it_generates_what_the_model_generates(name):
    module = load(name)
    model, weights = make(name, positions="rotary", n_kv_heads=2, tied_head=False)
    weights["embedding.token.weight"] *= 50
    model = module.from_weights(model.config, weights)
    prompts = [[5, 3, 2, 11, 7], [13], list(range(20))]
    fast = module.accelerate(model)
    assert module.generate(fast, prompts, 9) == module.generate(model, prompts, 9)
    beams = module.beam_search(fast, prompts[:1], 3, 5)[0][0], module.beam_search(model, prompts[:1], 3, 5)[0][0]
    assert beams[0].tokens == beams[1].tokens
    speculated = module.speculative_generate(fast, model, prompts, 9)
    assert speculated.tokens == module.generate(model, prompts, 9)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_other_caches_go_by_the_model(name):
    module = load(name)
    model, _ = make(name, positions="rotary")
    fast = module.accelerate(model)
    for make_cache in (
        lambda: module.SlidingCache(model.config, 2, 3),
        lambda: module.QuantizedKVCache(model.config, 2, 9),
        lambda: module.KVCache(model.config, 2, 9, dtype="int8"),
    ):
        logits = [numpy(m(tensor(name, TOKENS[:, :6]), cache=make_cache())) for m in (fast, model)]
        np.testing.assert_allclose(*logits, atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_reordered_cache_is_not_read_where_it_was(name):
    model, _ = make(name)
    fast = load(name).accelerate(model)
    cache = fast.new_cache(2, 9)
    fast(tensor(name, TOKENS[:, :4]), cache=cache)
    cache.reorder(np.array([1, 1]))
    logits = numpy(fast(tensor(name, TOKENS[[1, 1], 4:6]), cache=cache))
    np.testing.assert_allclose(logits, numpy(model(tensor(name, TOKENS[[1, 1], :6])))[:, 4:], atol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_nan_is_not_lost(name):
    for quantization in (None, (8, 8), (4, 8), (8, None)):
        model, _ = make(name, d_model=72, d_ff=40, d_head=8, positions="rotary")
        weights = load(name).to_weights(model)
        weights["decoder.layers.0.self_attention_norm.weight"][5] = np.nan
        model = load(name).from_weights(model.config, weights)
        model = load(name).quantize(model, *quantization, group_size=8) if quantization else model
        fast = load(name).accelerate(model)
        with pytest.raises(ValueError, match="NaN"):
            load(name).generate(fast, [[1, 2, 3]], 3)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_errors_are_those_of_the_model(name):
    module = load(name)
    model, _ = make(name)
    fast = module.accelerate(model)
    with pytest.raises(ValueError, match="room for 5 positions: 0 are filled, 6 more came"):
        fast(tensor(name, TOKENS[:, :6]), cache=fast.new_cache(2, 5))
    with pytest.raises(ValueError, match="between 0 and 36"):
        fast(tensor(name, np.array([[99]])), cache=fast.new_cache(1, 5))
    with pytest.raises(ValueError, match="holds 2 rows"):
        fast(tensor(name, TOKENS[:1, :3]), cache=fast.new_cache(2, 5))
    other, _ = make(name, kind="encoder-decoder")
    with pytest.raises(ValueError, match="kind='decoder', got kind='encoder-decoder'"):
        module.accelerate(other)
    other, _ = make(name, positions="relative")
    with pytest.raises(ValueError, match="relative positions"):
        module.accelerate(other)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_step_of_the_kernels_is_decode_and_raises_as_it_does(name):
    module = load(name)
    model, _ = make(name, positions="rotary", logit_scale=0.5)
    fast, prompt = module.accelerate(model), tensor(name, TOKENS[:, :6])
    caches = [fast.new_cache(2, 8), fast.new_cache(2, 8), module.SlidingCache(fast.config, 2, 8)]
    for cache in caches:
        fast.prefill(prompt, cache, lengths=[6, 4])
    with no_gradients(name):
        want = to_float(model.decode(tensor(name, TOKENS[:, 6]), caches[0]))
        for cache in caches[1:]:
            got = fast.decode(TOKENS[:, 6], cache)
            assert isinstance(got, np.ndarray) and got.dtype == np.float32
            np.testing.assert_allclose(got, want, atol=2e-5)
            assert [int(n) for n in cache.lengths] == [7, 5]
    cache = caches[1]
    for tokens, error, message in (
        (np.array([1, 99]), ValueError, "between 0 and 36, got 99"),
        (np.array([1, -1]), ValueError, "between 0 and 36, got -1"),
        (np.array([1.0, 2.0]), TypeError, "must be integers, got float64"),
        (np.array([1]), ValueError, "the cache holds 2 rows, got 1 tokens"),
        (np.array([[1], [2]]), ValueError, r"\(B,\), got shape \(2, 1\)"),
    ):
        with pytest.raises(error, match=message):
            fast.decode(tokens, cache)
    with pytest.raises(ValueError, match="prefill a prompt before decode"):
        fast.decode(TOKENS[:, 6], fast.new_cache(2, 8))
    fast.decode(TOKENS[:, 7], cache)
    with pytest.raises(ValueError, match="room for 8 positions: 8 are filled"):
        fast.decode(TOKENS[:, 8], cache)


@pytest.mark.parametrize(
    "environment", [dict(CXX="/nonexistent/g++"), dict(TFGUIDE_NATIVE="0"), dict(CXX="false")], ids=str
)
def test_without_a_compiler_the_error_says_what_to_do(environment, tmp_path):
    code = "from tfguide import native; print(native.is_available()); native.library()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TFGUIDE_CACHE": str(tmp_path), **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"
    last = done.stderr.strip().splitlines()
    expected = "switched off" if "TFGUIDE_NATIVE" in environment else "C++ compiler"
    assert any("NativeUnavailable" in line and expected in line for line in last)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


@pytest.fixture(params=["AuthenticAMD", "GenuineIntel"])
def vendor_library(request, monkeypatch):
    """The kernels as they are compiled for a vendor's processors, whoever made this one."""
    module = import_module("tfguide.native.library")
    monkeypatch.setattr(module, "processor_vendor", lambda: request.param)
    built = module.library.__wrapped__()
    monkeypatch.setattr(import_module("tfguide.native.linear"), "library", lambda: built)


@pytest.mark.parametrize("form", native.FORMATS[:6])
def test_products_are_those_of_numpy_for_any_processor_and_shape(form, vendor_library):
    rng = np.random.default_rng(0)
    for d_in, d_out in ((256, 48), (100, 33), (17, 1), (8, 70)):
        exact = rng.standard_normal((d_out, d_in)).astype(np.float32)
        if form.startswith("bfloat16"):
            exact = (exact.view(np.uint32) & 0xFFFF0000).view(np.float32)
            stored = (exact.view(np.uint32) >> 16).astype(np.uint16)
        else:
            stored = exact.astype(form.split()[0])
            exact = stored.astype(np.float32)
        stored = np.ascontiguousarray(stored.T if form.endswith("columns") else stored)
        matrix = native.Matrix(stored.ctypes.data, form, d_in, d_out, owner=stored)
        for rows in (1, 2, 3, 8, 9):
            x = rng.standard_normal((rows, d_in)).astype(np.float32)
            want = x.astype(np.float64) @ exact.T.astype(np.float64)
            found = native.multiply(matrix, x, threads=2)
            if form.startswith("bfloat16") and rows > native.EXACT_ROWS:
                # x may be rounded to bfloat16, each number by 2^-8 of itself at most.
                assert (abs(found - want) <= 2.0**-8 * (abs(x) @ abs(exact).T) + 1e-4).all()
            else:
                np.testing.assert_allclose(found, want, atol=1e-4)


def test_the_kernels_read_at_a_speed():
    assert native.MemoryReader(1 << 22)() > 1e8


def test_a_forked_child_has_a_team_of_its_own():
    code = """
import os, sys
import numpy as np
from tfguide import native
first = native.MemoryReader(1 << 20, threads=2)()
child = os.fork()
if child == 0:
    os._exit(0 if native.MemoryReader(1 << 20, threads=2)() > 0 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# What FastDecoder says that a row in a batch may differ from the row alone, of the largest logit.
ROUNDING = {"float32": 1e-5, "bfloat16": 8 * 2**-8, "float16": 8 * 2**-11}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("quantization", [None, (8, None), (8, 8), (4, None), (4, 8)], ids=str)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_in_a_batch_is_the_row_alone_within_the_bound(name, quantization, dtype, monkeypatch):
    """Prompts and steps alone, and in batches so large that other kernels and unpacked weights take their turn.

    With 8-bit activations the bound is 0: one that falls to the next integer would change all that comes after it.
    """
    monkeypatch.setattr(import_module(f"tfguide.{name}.fast.tree"), "MANY_ROWS", 32)
    sizes = dict(d_model=72, d_ff=40, d_head=8, positions="rotary", activation="swiglu", norm="rms", qkv_bias=True)
    model, _ = make(name, dtype, quantization, **sizes)
    fast = load(name).accelerate(model)
    tokens = np.random.default_rng(1).integers(0, 37, (40, 17))
    exact = quantization and quantization[1]

    def read(rows, length, cache_dtype):
        with no_gradients(name):
            cache = fast.new_cache(len(rows), 18, cache_dtype)
            parts = [to_float(fast(tensor(name, rows[:, :length]), cache=cache))]
            parts.append(to_float(fast(tensor(name, rows[:, length : length + 1]), cache=cache)))
        return np.concatenate(parts, axis=1)

    for length, cache_dtype in itertools.product((1, 5, 16), sorted({dtype, "float16", "int8"})):
        # A sum in another order may round a key to the next number of the cache's type.
        bound = 0 if exact else max(ROUNDING[dtype], CACHED[cache_dtype])
        alone = read(tokens[:1], length, cache_dtype)
        for batch in (2, 3, 7, 17, 40):
            difference = np.abs(read(tokens[:batch], length, cache_dtype)[:1] - alone).max()
            assert difference <= bound * np.abs(alone).max(), (length, batch, cache_dtype)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_threads_are_those_of_the_variable_or_of_the_framework(name, monkeypatch):
    model, _ = make(name)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setenv("TFGUIDE_THREADS", "3")
    assert load(name).accelerate(model).threads == 3 == native.default_threads(2)
    assert load(name).accelerate(model, threads=2).threads == 2
    monkeypatch.delenv("TFGUIDE_THREADS")
    assert native.default_threads() == native.cores() and native.default_threads(5) == 5
    if name == "torch":
        assert load(name).accelerate(model).threads == import_module("torch").get_num_threads()
    else:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
        assert load(name).accelerate(model).threads == 7
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("TFGUIDE_THREADS", wrong)
        with pytest.raises(ValueError, match=f"TFGUIDE_THREADS must be an integer of at least 1, got '{wrong}'"):
            load(name).accelerate(model)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [*VARIANTS, dict(d_head=64, n_kv_heads=2, positions="rotary")], ids=str)
def test_eight_bit_prompts_are_the_same_to_the_last_bit(changes):
    """In any chunks, beside any rows, in any number of threads; and nearly the same in either framework.

    Chunks of fewer than MANY_TOKENS attend in another order than longer ones: each kind is the same to the last bit.
    """
    changes = {"d_model": 72, "d_ff": 40, "d_head": 8, **changes, "max_positions": 170}
    n, many = 131, native.MANY_TOKENS  # more tokens than pass through the kernels together
    tokens = np.random.default_rng(1).integers(0, 37, (20, n))
    first = {}
    for name, quantization in itertools.product(FRAMEWORKS, ((8, 8), (4, 8))):
        model, _ = make(name, quantization=quantization, **changes)
        one, three = (load(name).accelerate(model, threads=threads) for threads in (1, 3))

        def read(fast, rows, *lengths):
            cache, parts, at = fast.new_cache(len(rows), n), [], 0
            for length in lengths:
                parts.append(to_float(fast.hidden(rows[:, at : at + length], cache=cache)))
                at += length
            return np.concatenate(parts, axis=1)[0]

        steps, whole = read(one, tokens[:1], *[1] * n), read(one, tokens[:1], n)
        for batch, lengths in ((20, (n,)), (3, (9, 17, n - 26)), (2, (many, n - many))):
            np.testing.assert_array_equal(read(one, tokens[:batch], *lengths), whole)
        for batch, lengths in ((1, (5, 7) * 10 + (6, 5)), (3, (many - 1, 3) * 13 + (1,))):
            np.testing.assert_array_equal(read(one, tokens[:batch], *lengths), steps)
        # Three threads wait for each other long where there are two cores: a few steps are enough.
        np.testing.assert_array_equal(read(three, tokens[:1], *[1] * 7), steps[:7])
        np.testing.assert_array_equal(read(three, tokens[:1], n), whole)
        np.testing.assert_array_equal(read(three, tokens[:3], 9, 17, n - 26), whole)
        np.testing.assert_array_equal(read(three, tokens[:3], *(many - 1, 3) * 2), steps[: 2 * many + 4])
        share = 0.02 if model.config.experts is None else 0.1  # a token may go to another expert
        np.testing.assert_allclose(whole, steps, atol=share * np.abs(steps).max())
        for kind, found in (("steps", steps), ("whole", whole)):
            wanted = first.setdefault((quantization, kind), found)
            np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(found).max())


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "GenuineIntel"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_prompt_read_with_kernels_gives_the_logits_of_the_model(changes, dtype, vendor, monkeypatch):
    """PyTorch only: TensorFlow's graph computes norms, activations and rotations itself."""
    monkeypatch.setattr(native, "processor_vendor", lambda: vendor)
    model, _ = make("torch", dtype, **changes)
    tokens = tensor("torch", np.random.default_rng(1).integers(0, 37, (5, 21)))
    assert tokens.numel() > native.MAX_ROWS  # or a step would read them
    fast = load("torch").accelerate(model)
    with no_gradients("torch"):
        got, want = (to_float(m(tokens, cache=fast.new_cache(5, 21))) for m in (fast, model))
    step = {"float32": 2**-20, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    beyond = np.abs(got - want).max(axis=-1) >= 8 * step * np.abs(want).max()  # (B, T)
    # A rounding may choose another expert for a token.
    assert beyond.mean() <= (0.05 if "experts" in changes and dtype != "float32" else 0)


def no_gradients(name):
    return load(name).models.torch.inference_mode() if name == "torch" else contextlib.nullcontext()


@pytest.mark.parametrize("frozen", ["no block", "some blocks", "all blocks"])
def test_the_first_prompt_of_tensorflow_traces_one_block(frozen, monkeypatch):
    """A graph of all blocks takes seconds to trace, and the first prompt would wait for it.

    The weights of a frozen block are not trainable; the graph takes those of each block all the same.
    """
    decoder, made = import_module("tfguide.tensorflow.fast.decoder"), []

    class Watched(decoder.PromptView):
        def __init__(self, *arguments):
            made.append(1)
            super().__init__(*arguments)

    monkeypatch.setattr(decoder, "PromptView", Watched)
    model, weights = make("tensorflow", positions="rotary", n_layers=5, max_positions=80, n_kv_heads=2)
    for layer in model.decoder.layers[{"no block": 5, "some blocks": 2, "all blocks": 0}[frozen] :]:
        layer.trainable = False
    fast = load("tensorflow").accelerate(model)
    tokens = np.random.default_rng(1).integers(0, 37, (2, 70))
    want = ref.from_weights(model.config, weights)(tokens)
    for n in (70, 66, 69):
        cache = fast.new_cache(2, 80)
        got = fast(tensor("tensorflow", tokens[:, :n]), cache=cache)
        np.testing.assert_allclose(to_float(got), want[:, :n], atol=1e-5)
        step = fast.decode(tokens[:, 0], cache)
        longer = np.concatenate([tokens[:, :n], tokens[:, :1]], axis=1)
        np.testing.assert_allclose(step, ref.from_weights(model.config, weights)(longer)[:, -1], atol=1e-5)
    assert made == [1]
