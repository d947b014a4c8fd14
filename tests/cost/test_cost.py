"""The arithmetic of the cost model, against counting by other means, and its errors."""

import dataclasses
import math

import numpy as np
import pytest

from tests.support import small_config
from tfguide import PRESETS, Experts, LatentAttention, ModelConfig, cost, init_weights, weight_shapes

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
    assert one.roofline_s == max(one.compute_s, one.weights_s) + one.kv_s < one.serial_s
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


def test_a_plan_fits_is_the_cheapest_and_keeps_the_time():
    chosen = cost.plan(LLAMA, "h100", 32, 8192)
    assert chosen.memory_bytes_per_chip <= 0.9 * 80e9
    price = chosen.chips * chosen.decode.serial_s
    for n in (1, 2, 4, 8, 16):
        for layout in cost.LAYOUTS:
            for attention in ("batch", "head"):
                one = cost.step(LLAMA, "h100", n, 32, 8192, layout=layout, attention=attention)
                if one.weight_bytes_per_chip + one.kv_bytes_per_chip <= 0.9 * 80e9:
                    assert price <= n * one.serial_s * (1 + 1e-12)
    quick = cost.plan(LLAMA, "h100", 32, 8192, latency_s=0.006)
    assert quick.decode.serial_s <= 0.006 and quick.chips > chosen.chips
    assert cost.plan(LLAMA, "h100", 32, 8192, chips=8).chips == 8
    with pytest.raises(ValueError, match=r"no plan keeps a step within 0.001 ms: the fastest that fits takes"):
        cost.plan(LLAMA, "h100", 32, 8192, latency_s=1e-6)
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
    (lambda: cost.prefill_flops(small_config(kind="encoder-decoder"), 3), ValueError, "two texts"),
    (lambda: cost.parameters("llama-3-8b"), TypeError, "ModelConfig"),
    (lambda: cost.step(None, "h100", 1, 1, 1), TypeError, "config must be a ModelConfig, got NoneType"),
    (lambda: cost.kv_bytes_per_token({}), TypeError, "config must be a ModelConfig, got dict"),
    (lambda: cost.kv_share(LLAMA, 8, "batch", 0), ValueError, "batch must be at least 1, got 0"),
    (lambda: cost.kv_bytes(LLAMA, 1, -1), ValueError, "context must be at least 0"),
    (lambda: dataclasses.replace(cost.CHIPS["h100"], hbm_bytes=0), ValueError, "above 0"),
    (lambda: cost.plan(LLAMA, "h100", 1, 1, reserve=1.0), ValueError, "reserve"),
    (lambda: Experts(n_experts=2, per_token=3, d_expert=5), ValueError, "per_token must be at most"),
    (lambda: LatentAttention(kv_rank=0, d_nope=1, d_rope=1, d_value=1), ValueError, "kv_rank"),
    (lambda: small_config(experts=3), TypeError, "experts must be an Experts"),
]


@pytest.mark.parametrize("call, error, message", BAD, ids=[message for _, _, message in BAD])
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "changes",
    [
        dict(qk_norm=True),
        dict(experts=Experts(n_experts=4, per_token=2, d_expert=5)),
        dict(latent=LatentAttention(kv_rank=4, d_nope=2, d_rope=2, d_value=2)),
    ],
    ids=["qk_norm", "experts", "latent"],
)
def test_what_only_the_cost_model_knows_cannot_be_built(changes):
    config = small_config(**changes)
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(NotImplementedError, match=f"{next(iter(changes))} is known to tfguide.cost alone"):
        init_weights(config)
    import tfguide.tensorflow
    import tfguide.torch

    for module in (tfguide.torch, tfguide.tensorflow):
        with pytest.raises(NotImplementedError, match="not implemented"):
            module.Decoder(config)


def test_speculation_by_simulation():
    stream = np.random.default_rng(0)
    accepted = stream.random((200_000, 5)) < 0.7
    drawn = 1 + np.cumprod(accepted, axis=1).sum(axis=1)
    assert cost.speculative_tokens(0.7, 5) == pytest.approx(drawn.mean(), rel=0.01)
    assert cost.speculative_tokens(1.0, 5) == 6
    assert cost.speculative_speedup(0.7, 5, 0.0) == cost.speculative_tokens(0.7, 5)
