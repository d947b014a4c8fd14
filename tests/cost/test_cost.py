"""The arithmetic of the cost model, against counting by other means, and its errors."""

import dataclasses
import math

import numpy as np
import pytest

from tests.support import small_config
from tfguide import PRESETS, Experts, LatentAttention, ModelConfig, cost, weight_shapes
from tfguide.dtypes import dtype_bytes, dtype_name
from tfguide.weights import check_dtype

LLAMA = ModelConfig.from_preset("llama-3-70b")
SMALL = small_config()


BUILT = [n for n, p in PRESETS.items() if not {"experts", "latent", "qk_norm"} & set(p)]  # others: test_published


@pytest.mark.parametrize("name", BUILT)
def test_parameters_are_the_sum_of_the_shapes(name):
    config = ModelConfig.from_preset(name)
    assert cost.parameters(config) == sum(math.prod(shape) for shape in weight_shapes(config).values())
    assert cost.active_parameters(config) == cost.parameters(config)


@pytest.mark.parametrize(
    "changes",
    [
        dict(positions="learned", embedding_norm=True, n_token_types=2),
        dict(norm="rms", activation="swiglu", qkv_bias=False, tied_head=False),
        dict(norm_placement="parallel", norm_bias=False, n_kv_heads=1),
        dict(norm_placement="post", output_bias=False, ffn_bias=False, activation="geglu"),
        dict(kind="encoder", pooler=True),
        dict(kind="encoder-decoder", positions="relative", n_encoder_layers=3),
        dict(kind="encoder-decoder", positions="learned", norm_placement="post", embedding_norm=True),
    ],
    ids=str,
)
def test_parameters_of_any_architecture(changes):
    config = small_config(**changes)
    assert cost.parameters(config) == sum(math.prod(shape) for shape in weight_shapes(config).values())


def test_operations_are_those_that_numpy_would_do():
    """Count the products of the reference as they run."""
    config = small_config(positions="rotary", norm="rms", activation="swiglu", tied_head=False, n_kv_heads=2)
    shapes = weight_shapes(config)
    T = 11
    matrices = sum(math.prod(s) for n, s in shapes.items() if ".layers." in n and len(s) == 2)
    pairs = sum(range(1, T + 1))
    attention = config.n_layers * pairs * config.n_heads * config.d_head * 2 * 2
    head = 2 * math.prod(shapes["head.weight"])
    assert cost.prefill_flops(config, T) == 2 * T * matrices + attention + head
    assert cost.prefill_flops(config, T, batch=3) == 3 * cost.prefill_flops(config, T)
    steps = sum(cost.decode_flops(config, context) for context in range(1, T + 1))
    assert steps == cost.prefill_flops(config, T) + (T - 1) * head
    assert sum(cost.decode_flops_by_term(config, T).values()) == cost.decode_flops(config, T)


def test_a_window_and_an_encoder():
    windowed = small_config(sliding_window=4)
    seen = [min(t, 4) for t in range(1, 12)]
    full = cost.prefill_flops_by_term(small_config(), 11)["attention"]
    assert cost.prefill_flops_by_term(windowed, 11)["attention"] * sum(range(1, 12)) == full * sum(seen)
    encoder = small_config(kind="encoder")
    assert cost.prefill_flops_by_term(encoder, 11)["attention"] * 66 == full * 121
    assert cost.kv_bytes_per_token(encoder) == 0
    assert cost.kv_bytes(windowed, 1, 100) == cost.kv_bytes(windowed, 1, 4)


def test_latent_attention_is_counted_as_it_is_cached():
    config = ModelConfig.from_preset("deepseek-v3")
    assert cost.kv_bytes_per_token(config) == 61 * (512 + 64) * 2
    short, long = (cost.decode_flops_by_term(config, s) for s in (1000, 2000))
    assert long["attention"] == 2 * short["attention"] == 2 * 1000 * 61 * 2 * 128 * (512 + 64 + 512)
    assert long["projections"] == short["projections"]


def test_experts_are_read_as_tokens_fall_on_them():
    config = ModelConfig.from_preset("mixtral-8x7b")
    embedding = 32000 * 4096
    one = cost.parameters_read(config, 1)
    assert one == pytest.approx(cost.active_parameters(config) - embedding)
    assert cost.parameters_read(config, 10_000) == pytest.approx(cost.parameters(config) - embedding)
    stream = np.random.default_rng(0)
    hit = np.mean([len({e for _ in range(5) for e in stream.choice(8, 2, replace=False)}) for _ in range(4000)])
    each = 3 * 4096 * 14336 * 32
    assert (cost.parameters_read(config, 5) - one) / each == pytest.approx(hit - 2, abs=0.05)


def test_a_step_adds_up():
    chip = cost.CHIPS["h100"]
    one = cost.step(LLAMA, "h100", 8, 32, 8192, weights="int8", kv="int8")
    assert one == cost.step(LLAMA, chip, 8, 32, 8192, weights="int8", kv="int8")
    assert one.flops == cost.decode_flops(LLAMA, 8192, 32)
    assert one.compute_s == one.flops / (8 * chip.peak_flops)
    assert one.weights_s == cost.parameters_read(LLAMA) / (8 * chip.hbm_bandwidth)
    assert one.kv_s == 32 * 8192 * 163_840 / (8 * chip.hbm_bandwidth)
    assert one.serial_s == one.compute_s + one.weights_s + one.kv_s + one.communication_s
    assert one.roofline_s == max(one.compute_s, one.weights_s + one.kv_s) < one.serial_s
    assert one.tokens_per_second == 32 / one.serial_s
    prompt = cost.step(LLAMA, "h100", 8, 2, 100, 100)
    assert prompt.flops == cost.prefill_flops(LLAMA, 100, 2)
    later = cost.step(LLAMA, "h100", 8, 1, 100, 40).flops
    first = cost.step(LLAMA, "h100", 8, 1, 60, 60).flops
    head = 2 * LLAMA.d_model * LLAMA.vocab_size
    assert first + later - head == cost.step(LLAMA, "h100", 8, 1, 100, 100).flops
    assert cost.step(LLAMA, "h100", 1, 1, 10).communication_s == 0


def test_more_chips_are_faster_and_heads_are_held_more_than_once():
    times = [cost.step(LLAMA, "h100", n, 32, 8192).serial_s for n in (1, 2, 4, 8)]
    assert times == sorted(times, reverse=True)
    assert cost.kv_share(LLAMA, 16, "head") == 1 / 8  # 8 heads: each on two chips
    assert cost.kv_share(LLAMA, 16, "batch") == 1 / 16
    assert cost.kv_share(LLAMA, 16, "batch", 4) == 1 / 4  # a sequence is not divided


def test_the_bound_is_the_larger_of_all_arithmetic_and_all_reading():
    """Equation (1) of section 6.1, on both sides of it: many short texts compute, everything else reads."""
    small = ModelConfig.from_preset("llama-3-8b")
    many = cost.step(small, "h100", 1, 1024, 128)
    assert many.compute_s > many.weights_s + many.kv_s and many.roofline_s == many.compute_s
    assert 1e3 * many.roofline_s == pytest.approx(15.6, abs=0.05)
    for chips, batch, context in ((1, 1, 8192), (8, 32, 8192), (1, 952, 512)):
        one = cost.step(small, "h100", chips, batch, context)
        assert one.roofline_s == one.weights_s + one.kv_s > one.compute_s


def test_types_are_the_same_everywhere_unless_told():
    small, of_type = ModelConfig.from_preset("llama-3-8b"), dict(weights="bfloat16", kv="bfloat16")
    assert cost.step(small, "h100", 1, 2, 99) == cost.step(small, "h100", 1, 2, 99, **of_type)
    assert cost.plan(small, "h100", 2, 99) == cost.plan(small, "h100", 2, 99, **of_type)
    assert cost.weight_bytes(small) == 2 * cost.parameters(small)
    assert cost.kv_bytes_per_token(small) == 2 * cost.kv_bytes_per_token(small, "int8")


@pytest.mark.parametrize(
    ("names", "n_bytes"),
    [
        ("float32 fp32 F32 torch.float32 float", 4),
        ("bfloat16 bf16 BF16 torch.bfloat16 float16 fp16 F16 half", 2),
        ("float8 fp8 float8_e4m3fn F8_E4M3 torch.float8_e5m2 e4m3 int8 I8", 1),
        ("float4 mxfp4 nvfp4 int4 nf4", 0.5),
    ],
)
def test_a_type_has_many_names(names, n_bytes):
    for name in names.split():
        assert dtype_bytes(name) == n_bytes, name
        assert dtype_name(name) in cost.BYTES and cost.BYTES[dtype_name(name)] == n_bytes
        assert cost.weight_bytes(SMALL, name) == n_bytes * cost.parameters(SMALL)
    for wrong, error, message in (("int3", ValueError, "did you mean"), (8, TypeError, "must be the name of a type")):
        with pytest.raises(error, match=message):
            dtype_name(wrong)


def test_a_sequence_and_a_head_are_computed_on_one_chip():
    """Attention of one sequence does not get faster with chips that have none of it."""
    alone = cost.step(LLAMA, "h100", 1, 3, 4096)
    attending = cost.decode_flops_by_term(LLAMA, 4096, 3)["attention"] / cost.CHIPS["h100"].peak_flops
    for attention, chips, share in (("batch", 2, 2 / 3), ("batch", 8, 1 / 3), ("head", 8, 1 / 8), ("head", 48, 2 / 64)):
        one = cost.step(LLAMA, "h100", chips, 3, 4096, attention=attention)
        assert one.compute_s == pytest.approx((alone.compute_s - attending) / chips + attending * share)
        assert one.flops == alone.flops


WINDOWS = [
    pytest.param(dict(), id="none"),
    pytest.param(dict(sliding_window=4), id="all"),
    pytest.param(dict(sliding_window=4, sliding_layers=(1,)), id="one"),
    pytest.param(dict(sliding_window=4, sliding_layers=(0, 2, 4)), id="in turn"),
    pytest.param(dict(sliding_window=50, sliding_layers=(3, 4)), id="wider than the text"),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_each_layer_sees_and_keeps_its_own(window):
    """Every count against a sum over layers and positions."""
    config = small_config(n_layers=5, **window)
    sliding = () if not window else window.get("sliding_layers", range(5))
    widths = [config.sliding_window if layer in sliding else 10**9 for layer in range(5)]
    assert config.n_sliding_layers == len(sliding)
    each = 2 * config.n_kv_heads * config.d_head * 2
    pair = 4 * config.n_heads * config.d_head
    for S in (1, 3, 4, 5, 11):
        assert cost.kv_bytes(config, 3, S) == 3 * each * sum(min(S, width) for width in widths)
        seen = sum(min(S, width) for width in widths)
        assert cost.decode_flops_by_term(config, S)["attention"] == pair * seen
        pairs = sum(min(t, width) for t in range(1, S + 1) for width in widths)
        assert cost.prefill_flops_by_term(config, S)["attention"] == pair * pairs
        one = cost.step(config, "h100", 1, 3, S)
        assert one.kv_bytes_per_chip == cost.kv_bytes(config, 3, S)
        last = cost.step(config, "h100", 1, 1, S, new_tokens=min(S, 2)).flops
        rest = cost.step(config, "h100", 1, 1, S - 2, new_tokens=S - 2).flops if S > 2 else 0
        head = 2 * config.d_model * config.vocab_size
        assert last + rest - (head if rest else 0) == cost.prefill_flops(config, S)


@pytest.mark.parametrize("attention", ["batch", "head"])
@pytest.mark.parametrize("chips", [1, 3, 8])
@pytest.mark.parametrize("batch", [1, 2, 7, 8])
@pytest.mark.parametrize("window", [*WINDOWS, pytest.param(dict(sliding_window=10**7), id="wider than the memory")])
def test_the_longest_context_fits_and_the_next_does_not(window, batch, chips, attention):
    config = small_config(n_layers=5, **window)
    weights = cost.parameters(config) * 2
    chip = dataclasses.replace(cost.CHIPS["h100"], hbm_bytes=20 * weights)
    longest = cost.max_context(config, chip, chips, batch, 0.3, attention)
    held = lambda S: cost.step(config, chip, chips, batch, S, attention=attention).kv_bytes_per_chip  # noqa: E731
    if longest is None:
        assert config.n_sliding_layers == config.n_layers
        assert held(10**6) == held(10**9) <= 6 * weights
    else:
        assert held(longest) <= 6 * weights < held(longest + 1)


def test_one_sequence_lies_on_one_chip():
    palm = ModelConfig.from_preset("palm-540b")
    assert cost.max_context(palm, "tpu-v4", 64, 1) == cost.max_context(palm, "tpu-v4", 64, 64) == 85_307
    assert cost.max_context(palm, "tpu-v4", 64, 65) == 85_307 // 2


@pytest.mark.parametrize("model", ["deepseek-v3", "llama-3.1-405b", "llama-3-70b"])
@pytest.mark.parametrize("chips", [1, 2, 8, 16])
def test_where_the_weights_do_not_fit_no_context_does(model, chips):
    config = ModelConfig.from_preset(model)
    for weights in ("bfloat16", "float8"):
        free = 80e9 - cost.weight_bytes(config, weights) / chips
        longest = cost.max_context(config, "h100", chips, 1, weights=weights)
        if free <= 0:
            assert longest == 0
        else:
            assert 0 < cost.kv_bytes(config, 1, longest) <= min(free, 24e9)


def test_the_intensity_of_decoding_has_a_ceiling():
    small = ModelConfig.from_preset("llama-3-8b")
    multiplied = cost.parameters_read(small) - cost.parameters_by_part(small)["norms"]
    for S in (128, 512, 4096):
        by_hand = 2 * multiplied / (S * 131_072) + 2 * 32 / (8 * 2)
        assert cost.intensity_ceiling(small, S) == pytest.approx(by_hand, rel=1e-12)
        rising = [cost.decode_intensity(small, S, batch) for batch in (1, 10, 100, 10**4, 10**6)]
        assert rising == sorted(rising) and rising[-1] < cost.intensity_ceiling(small, S)
        assert cost.decode_intensity(small, S, 10**9) == pytest.approx(cost.intensity_ceiling(small, S), rel=1e-3)
    assert cost.critical_context(small, "h100") == 393
    assert cost.critical_batch(small, "h100", 393) is not None and cost.critical_batch(small, "h100", 394) is None
    assert cost.critical_context(small, "h100", kv="int8") > 2 * 393
    tiny = dataclasses.replace(cost.CHIPS["h100"], peak_flops=4e12 / 2, hbm_bandwidth=1e12)
    assert cost.critical_context(small, tiny) is None  # 2 operations a byte: below what the cache alone gives
    vast = dataclasses.replace(tiny, peak_flops=1e20)
    assert cost.critical_context(small, vast) == 0


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b", "deepseek-v3", "mistral-7b"])
@pytest.mark.parametrize("chip", ["h100", "tpu-v5e"])
def test_the_critical_batch_is_where_a_step_turns(model, chip):
    config = ModelConfig.from_preset(model)
    for context in (1, 100, 300):
        batch = cost.critical_batch(config, chip, context)
        below, at = (cost.step(config, chip, 1, b, context) for b in (batch - 1, batch))
        assert below.compute_s < below.weights_s + below.kv_s
        assert at.compute_s >= (at.weights_s + at.kv_s) * (1 - 1e-12)


def test_a_plan_fits_is_the_cheapest_and_keeps_the_time():
    chosen = cost.plan(LLAMA, "h100", 32, 8192, weights="int8")
    assert chosen.memory_bytes_per_chip <= 0.9 * 80e9
    price = chosen.chips * chosen.decode.serial_s
    for n in (1, 2, 4, 8, 16):
        for layout in cost.LAYOUTS:
            for attention in ("batch", "head"):
                one = cost.step(LLAMA, "h100", n, 32, 8192, weights="int8", layout=layout, attention=attention)
                if one.weight_bytes_per_chip + one.kv_bytes_per_chip <= 0.9 * 80e9:
                    assert price <= n * one.serial_s * (1 + 1e-12)
    quick = cost.plan(LLAMA, "h100", 32, 8192, latency_s=0.006, weights="int8")
    assert quick.decode.serial_s <= 0.006 and quick.chips > chosen.chips
    assert cost.plan(LLAMA, "h100", 32, 8192, chips=8).chips == 8
    with pytest.raises(ValueError, match=r"no plan keeps a step within 0.001 ms: the fastest that fits takes"):
        cost.plan(LLAMA, "h100", 32, 8192, latency_s=1e-6)
    with pytest.raises(ValueError, match=r"^\d{4,} GB on each of 1 h100 is the least"):  # and not 5.4e+03
        cost.plan(LLAMA, "h100", 32, 10**6, chips=1)
    with pytest.raises(ValueError, match="is the least that weights and cache take, and 72 GB are free"):
        cost.plan(LLAMA, "h100", 1, 10**10)


BAD = [
    (lambda: cost.step(LLAMA, "h10", 8, 1, 10), ValueError, "unknown chip 'h10'; did you mean 'h100'"),
    (lambda: cost.step(LLAMA, 5, 8, 1, 10), TypeError, "chip must be a name or a Chip"),
    (lambda: cost.step(LLAMA, "h100", 0, 1, 10), ValueError, "chips must be at least 1, got 0"),
    (lambda: cost.step(LLAMA, "h100", 8, 1, 10, layout="2d"), ValueError, "did you mean '2d-ws'"),
    (lambda: cost.step(LLAMA, "h100", 8, 1, 10, attention="heads"), ValueError, "did you mean 'head'"),
    (lambda: cost.step(LLAMA, "h100", 8, 1, 10, mesh=(2, 2, 3)), ValueError, "has 12 chips, expected 8"),
    (lambda: cost.step(LLAMA, "h100", 8, 1, 10, new_tokens=11), ValueError, "context counts the new tokens too"),
    (lambda: cost.step(LLAMA, "h100", 8, 1, 10, weights="int3"), ValueError, "dtype must be one of"),
    (lambda: cost.step(small_config(kind="encoder"), "h100", 8, 1, 10), ValueError, "kind='decoder'"),
    (lambda: cost.max_context(LLAMA, "h100", 8, 0), ValueError, "batch must be at least 1"),
    (lambda: cost.max_context(LLAMA, "h100", 8, 1, kv_fraction=1.5), ValueError, "at most 1"),
    (lambda: cost.max_context(small_config(kind="encoder"), "h100", 8, 1), ValueError, "no key/value cache"),
    (lambda: cost.max_context(LLAMA, "h100", 8, 1, attention="head", padded_heads=3), ValueError, "at least n_heads"),
    (lambda: cost.ffn_communication("wg", 1, 1, 1, (1, 1, 1)), ValueError, "did you mean"),
    (lambda: cost.ffn_communication("2d-ws", -1, 1, 1, (1, 1, 1)), ValueError, "tokens must be at least 1"),
    (lambda: cost.ffn_communication("2d-ws", 1, 1, 1, 8), ValueError, "three counts"),
    (lambda: cost.mfu(1e9, 10, 0, 1, 1e12), ValueError, "seconds must be above 0"),
    (lambda: cost.speculative_tokens(1.2, 4), ValueError, r"\[0, 1\]"),
    (lambda: cost.speculative_speedup(0.5, 4, -1), ValueError, "at least 0"),
    (lambda: cost.speculative_speedup(0.5, 4, float("nan")), ValueError, "draft_cost must be finite"),
    (lambda: cost.speculative_speedup(0.5, 4, 0.1, 0), ValueError, "check_cost must be above 0"),
    (lambda: cost.best_draft_length(0.5, 0.1, -0.1), ValueError, "more_cost must be at least 0"),
    (lambda: cost.best_draft_length(0.5, 0.1, most=0), ValueError, "most must be at least 1"),
    (lambda: cost.prefill_flops(small_config(kind="encoder-decoder"), 3), ValueError, "two texts"),
    (lambda: cost.parameters("llama-3-8b"), TypeError, "ModelConfig"),
    (lambda: cost.step(None, "h100", 1, 1, 1), TypeError, "config must be a ModelConfig, got NoneType"),
    (lambda: cost.kv_bytes_per_token({}), TypeError, "config must be a ModelConfig, got dict"),
    (lambda: cost.kv_share(LLAMA, 8, "batch", 0), ValueError, "batch must be at least 1, got 0"),
    (lambda: cost.kv_bytes(LLAMA, 1, -1), ValueError, "context must be at least 0"),
    (lambda: dataclasses.replace(cost.CHIPS["h100"], hbm_bytes=0), ValueError, "above 0"),
    (lambda: cost.plan(LLAMA, "h100", 1, 1, reserve=1.0), ValueError, "reserve"),
    (lambda: cost.critical_batch(LLAMA, "h10", 9), ValueError, "did you mean 'h100'"),
    (lambda: cost.decode_intensity(LLAMA, 0), ValueError, "context must be at least 1"),
    (lambda: small_config(sliding_layers=(0,)), ValueError, "sliding_layers needs sliding_window"),
    (lambda: small_config(sliding_window=4, sliding_layers=(9,)), ValueError, "below n_layers"),
    (lambda: small_config(sliding_window=4, sliding_layers=(-1,)), ValueError, "at least 0"),
    (lambda: small_config(sliding_window=4, sliding_layers=()), TypeError, "tuple of layers"),
    (lambda: Experts(n_experts=2, per_token=3, d_expert=5), ValueError, "per_token must be at most"),
    (lambda: LatentAttention(kv_rank=0, d_nope=1, d_rope=1, d_value=1), ValueError, "kv_rank"),
    (lambda: small_config(experts=3), TypeError, "experts must be an Experts"),
]


@pytest.mark.parametrize("call, error, message", BAD, ids=[message for _, _, message in BAD])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_speculation_by_simulation():
    stream = np.random.default_rng(0)
    accepted = stream.random((200_000, 5)) < 0.7
    drawn = 1 + np.cumprod(accepted, axis=1).sum(axis=1)
    assert cost.speculative_tokens(0.7, 5) == pytest.approx(drawn.mean(), rel=0.01)
    assert cost.speculative_tokens(1.0, 5) == 6
    assert cost.speculative_speedup(0.7, 5, 0.0) == cost.speculative_tokens(0.7, 5)
    assert cost.speculative_speedup(0.7, 5, 0.1, 1.5) == pytest.approx(cost.speculative_tokens(0.7, 5) / 2.0)


@pytest.mark.parametrize("a", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize(("c", "m"), [(0.0, 0.0), (0.1, 0.1), (0.25, 0.4), (0.69, 0.0), (0.5, 0.5)])
def test_a_draft_pays_where_it_hits_more_than_it_costs(a, c, m):
    best = cost.best_draft_length(a, c, m)
    assert (best > 0) == (a > c + m)
    speeds = [cost.speculative_speedup(a, k, c, 1 + k * m) for k in range(65)]
    assert speeds[best] == max(speeds) and speeds.index(max(speeds)) == best


def test_a_type_of_weights_that_has_another_name_here():
    with pytest.raises(ValueError, match="got 'bf16'; did you mean 'bfloat16'"):
        check_dtype("bf16")
    for wrong in ("mxfp4", None):  # known, or nothing, but no type of weights in memory
        with pytest.raises(ValueError, match=f"got {wrong!r}$"):
            check_dtype(wrong)
