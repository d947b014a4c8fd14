"""The chips: their rates follow from their units and clocks, and what no vendor publishes is said, not guessed."""

import dataclasses
import itertools
import json
from pathlib import Path

import pytest

from tfguide import PRESETS, Experts, ModelConfig, cost

BENCHMARK = Path(__file__).parents[2] / "book" / "appendices" / "benchmarks" / "zen5" / "decode_S.json"
SMALL = ModelConfig.from_preset("qwen2.5-0.5b")
RATES = ("peak_flops", "float32_flops", "float8_flops", "int8_flops", "float4_flops")

# Units, GHz, and the operations of a unit in a clock in bfloat16, float32, float8, int8 and float4: an independent
# derivation. A figure for 2:4-sparse matrices would be twice as high.
UNITS = {
    "a100": (108, 1.41, (2048, 128, None, 4096, None)),
    "h100": (132, 1.83, (4096, 256, 8192, 8192, None)),
    "a10g": (80, 1.71, (512, 256, None, 1024, None)),
    "l4": (58, 2.04, (1024, 256, 2048, 2048, None)),
    "l40s": (142, 2.52, (1024, 256, 2048, 2048, None)),
    "rtx-3090": (82, 1.695, (512, 256, None, 2048, None)),
    "rtx-4090": (128, 2.52, (512, 256, 1024, 2048, None)),
    "rtx-5090": (170, 2.407, (512, 256, 1024, 2048, 4096)),
    "h20": (78, 1.85, (1024, 312, 2048, 2048, None)),  # its float32 units run at another clock than its tensor units
    "gh200": (132, 1.83, (4096, 256, 8192, 8192, None)),
    "mi300x": (304, 2.1, (2048, 256, 4096, 4096, None)),
    "mi355x": (256, 2.4, (4096, 256, 8192, 8192, 16384)),
    "m1": (8, 1.278, (None, 256, None, None, None)),
    "m1-max": (32, 1.278, (None, 256, None, None, None)),
    "m2": (10, 1.398, (None, 256, None, None, None)),
}


@pytest.mark.parametrize("name", UNITS)
def test_rates_are_those_of_dense_products(name):
    units, clock, operations = UNITS[name]
    for field, each in zip(RATES, operations, strict=True):
        want = each and pytest.approx(units * clock * 1e9 * each, rel=0.09 if field == "float32_flops" else 0.025)
        assert getattr(cost.CHIPS[name], field) == want, field


def test_every_chip_has_a_source_and_what_it_needs():
    for name, chip in cost.CHIPS.items():
        assert len(chip.source) > 20, name
        assert chip.rates or "publishes no rate" in chip.source, name
    assert {"a10g", "l4", "l40s", "rtx-3090", "rtx-4090", "rtx-5090", "h20", "gh200", "mi300x", "mi355x", "zen5"} | {
        f"m{generation}{size}" for generation in range(1, 6) for size in ("", "-pro", "-max")
    } <= set(cost.CHIPS)


def test_this_machine_is_as_it_was_measured():
    limits, chip = json.loads(BENCHMARK.read_text())["limits"], cost.CHIPS["zen5"]
    assert chip.hbm_bandwidth == pytest.approx(limits["read_bytes_per_second"], rel=1e-3)
    assert chip.peak_flops == pytest.approx(limits["bfloat16_flops"], rel=1e-3)
    assert chip.float32_flops == pytest.approx(limits["float32_flops"], rel=1e-3)
    assert "as measured" in chip.source


def test_the_rate_of_a_product():
    h100, m1 = cost.CHIPS["h100"], cost.CHIPS["m1"]
    assert h100.product_flops() == h100.product_flops("fp16") == h100.peak_flops
    assert h100.product_flops("F8_E4M3") == h100.float8_flops
    assert m1.product_flops() == m1.product_flops("float32") == 2.6e12  # 16 bits are widened
    assert cost.CHIPS["m4-max"].product_flops() is cost.CHIPS["m4-max"].critical_intensity is None
    with pytest.raises(ValueError, match="h100 has no rate of products in float4: known are float32, bfloat16"):
        h100.product_flops("fp4")
    with pytest.raises(ValueError, match="m4-max has no rate of products in int8: none is known"):
        cost.CHIPS["m4-max"].product_flops("int8")


def test_products_in_float8_take_half_the_time_and_attention_does_not():
    config, of_type = ModelConfig.from_preset("llama-3-8b"), dict(weights="fp8", kv="fp8")
    slow, fast = (cost.step(config, "mi300x", 1, 7, 512, **of_type, products=t) for t in ("bfloat16", "fp8"))
    attention = cost.decode_flops_by_term(config, 512, 7)["attention"] / 1307.4e12
    assert fast.compute_s - attention == pytest.approx((slow.compute_s - attention) * 1307.4 / 2614.9)
    assert (fast.weights_s, fast.kv_s, fast.flops) == (slow.weights_s, slow.kv_s, slow.flops)
    wide = cost.step(config, "mi300x", 1, 7, 512, products="float32")
    assert wide.compute_s == pytest.approx(slow.flops / 163.4e12)
    with pytest.raises(ValueError, match="a100 has no rate of products in float8"):
        cost.step(config, "a100", 1, 7, 512, products="fp8")


def test_a_chip_without_links_works_alone():
    assert cost.plan(SMALL, "m1", 4, 100).chips == 1
    for call in (cost.step, cost.plan):
        with pytest.raises(ValueError, match="m1 has no links to others: chips must be 1, got 2"):
            call(SMALL, "m1", chips=2, batch=4, context=100)


def test_a_chip_whose_rate_is_not_published_reads():
    one = cost.step(SMALL, "m4-max", 1, 1, 1000)
    assert one.compute_s is None and one.utilization is None
    assert one.serial_s == one.roofline_s == one.weights_s + one.kv_s > 0
    known = dataclasses.replace(cost.CHIPS["m4-max"], float32_flops=1e13)
    assert cost.step(SMALL, known, 1, 1, 1000).weights_s == one.weights_s
    assert cost.plan(SMALL, "m4-max", 1, 1000).prefill is None
    with pytest.raises(ValueError, match="the rate of m4-max's products is not published: only decoding"):
        cost.step(SMALL, "m4-max", 1, 1, 1000, new_tokens=1000)
    for call in (cost.critical_batch, cost.critical_context):
        with pytest.raises(ValueError, match="not published"):
            call(SMALL, "m4-max", *((100,) if call is cost.critical_batch else ()))


@pytest.mark.parametrize("chip", ["h100", "rtx-4090", "zen5"])
@pytest.mark.parametrize("model", ["qwen2.5-0.5b", "gpt2", "mixtral-8x7b", "deepseek-v3"])
def test_no_more_than_all_of_a_chip_is_used(model, chip):
    """2 N operations for a token are more than a prompt does where the vocabulary is large: its head runs once."""
    config = ModelConfig.from_preset(model)
    for new_tokens, batch in ((1, 1), (1, 4096), (1000, 1), (1000, 64)):
        for products in ("bfloat16", "float32"):
            one = cost.step(config, chip, 1, batch, 1000, new_tokens, products=products)
            assert 0 < one.utilization <= 1
            rate = cost.CHIPS[chip].product_flops(products)
            assert one.utilization == pytest.approx(one.flops / (one.serial_s * rate))
    prompt = cost.step(SMALL, "h100", 1, 64, 1000, 1000)
    assert cost.mfu(cost.parameters(SMALL), 64_000, prompt.serial_s, 1, 989.4e12) > 1 > prompt.utilization > 0.9


def test_experts_are_stored_and_read_in_their_own_type():
    config = ModelConfig.from_preset("gpt-oss-20b")
    routed = 24 * 32 * 3 * 2880 * 2880  # gate, up and down; biases and routers are as the rest
    rest = cost.parameters(config) - routed
    assert cost.weight_bytes(config, "bfloat16", "mxfp4") == pytest.approx(2 * rest + 4.25 / 8 * routed)
    assert cost.weight_bytes(config, "float8", "NVFP4") == pytest.approx(rest + 4.5 / 8 * routed)
    assert cost.weight_bytes(config, "int8", "int8") == cost.weight_bytes(config, "int8") == cost.parameters(config)
    for tokens in (1, 5, 10**6):
        every = cost.experts_read(config, tokens) / 32 * routed
        read = cost.parameters_read(config, tokens)
        assert cost.weight_bytes_read(config, tokens, "bfloat16", "mxfp4") == pytest.approx(
            2 * (read - every) + 4.25 / 8 * every
        )
    one = cost.step(config, "h100", 1, 5, 100, experts="mxfp4")
    assert one.weight_bytes_per_chip == cost.weight_bytes(config, "bfloat16", "mxfp4")
    assert one.weights_s == cost.weight_bytes_read(config, 5, "bfloat16", "mxfp4") / 3350e9
    with pytest.raises(ValueError, match="dtype must be one of float32"):
        cost.step(config, "h100", 1, 5, 100, experts="mxfp5")


def test_experts_read_are_those_of_counting():
    """Every way in which 3 tokens choose 2 of 4 experts each, alike likely."""
    pairs = list(itertools.combinations(range(4), 2))
    counts = [len(set().union(*chosen)) for chosen in itertools.product(pairs, repeat=3)]
    config = ModelConfig.from_preset("mixtral-8x7b", experts=Experts(n_experts=4, per_token=2, d_expert=7))
    assert cost.experts_read(config, 3) == pytest.approx(sum(counts) / len(counts), rel=1e-12)
    assert cost.experts_read(config, 1) == pytest.approx(2) and cost.experts_read(SMALL, 9) == 0


@pytest.mark.parametrize("name", [name for name, fields in PRESETS.items() if fields["kind"] == "decoder"])
def test_every_decoder_is_planned(name):
    config = ModelConfig.from_preset(name)
    chosen = cost.plan(config, "mi355x", 3, 700, weights="fp8", kv="fp8", chips=8, products="fp8")
    assert chosen.decode.kv_bytes_per_chip * 8 >= cost.kv_bytes(config, 3, 700, "fp8")
    assert 0 < chosen.decode.utilization <= 1 and 0 < chosen.prefill.utilization <= 1
