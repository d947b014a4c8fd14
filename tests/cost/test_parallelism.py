"""What each way of dividing a step keeps and sends, against counts by hand."""

from dataclasses import replace

import pytest

from tfguide import ModelConfig, cost
from tfguide.cost.parallelism import ways

BATCH, CONTEXT = 64, 1000


def by_name(model, chip="h100", chips=8, batch=BATCH, **kwargs):
    return {way.name: way for way in ways(ModelConfig.from_preset(model), chip, chips, batch, CONTEXT, **kwargs)}


def test_a_dense_model():
    config, found = ModelConfig.from_preset("llama-3-8b"), by_name("llama-3-8b")
    weights, cache = cost.weight_bytes(config), cost.kv_bytes(config, BATCH, CONTEXT)
    assert "experts" not in found
    for name, way in found.items():
        assert way.weight_bytes == pytest.approx(weights if name == "sequences" else weights / 8)
        assert way.cache_bytes == pytest.approx(cache / 8)
        assert way.tokens_per_second == pytest.approx(BATCH / way.step_s)
    tokens = 2 * BATCH * config.d_model  # bytes
    heads, own = found["tensors, cache by heads"], found["tensors, cache by sequences"]
    assert found["sequences"].sent_bytes == 0
    assert heads.sent_bytes == pytest.approx(4 * tokens * 7 / 8)  # two all-reduces
    queries = 2 * BATCH * config.n_heads * config.d_head
    assert own.sent_bytes - heads.sent_bytes == pytest.approx(2 * queries / 8 * 7 / 8)
    pipe = found["layers, a pipeline"]
    assert pipe.sent_bytes * config.n_layers == pytest.approx(tokens)
    assert found["sequences"].step_s < pipe.step_s < 1.01 * found["sequences"].step_s
    assert heads.step_s < found["sequences"].step_s < found["weights gathered"].step_s


def test_experts():
    config = ModelConfig.from_preset("mixtral-8x7b")
    way, found = by_name("mixtral-8x7b")["experts"], by_name("mixtral-8x7b")
    D, F, L = config.d_model, config.experts.d_expert, config.n_layers
    routed = 8 * 3 * D * F * L
    assert way.weight_bytes == pytest.approx(2 * (cost.parameters(config) - routed) + 2 * routed / 8)
    assert way.sent_bytes == pytest.approx(2 * BATCH / 8 * 2 * D * 2 * 7 / 8)  # to 2 experts, in bfloat16, and back
    assert way.sent_bytes < found["tensors, cache by heads"].sent_bytes
    assert not found["sequences"].fits and way.fits
    deepseek = by_name("deepseek-v3", "h200", batch=512, dtype="float8")["experts"]
    hidden = 2 * 512 / 8 * 8 * 7168 * 2 * 7 / 8
    assert deepseek.sent_bytes == pytest.approx(hidden * 58 / 61)  # the first three layers have none


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b"])
def test_on_one_chip_all_ways_are_the_same(model):
    found = by_name(model, "h200", 1, 2).values()
    first, *others = found
    for way in others:
        assert (way.weight_bytes, way.cache_bytes, way.sent_bytes) == pytest.approx(
            (first.weight_bytes, first.cache_bytes, 0)
        )
        assert way.step_s == pytest.approx(first.step_s)
    assert by_name("llama-3-8b", "m4-pro", 1, 2)["sequences"].fits


def test_heads_that_are_repeated():
    """One cached vector for all heads, kept whole on each of eight chips."""
    config = ModelConfig.from_preset("deepseek-v3")
    found = by_name("deepseek-v3", "h200", dtype="float8")
    whole = cost.kv_bytes(config, BATCH, CONTEXT, "float8")
    assert found["tensors, cache by heads"].cache_bytes == whole
    assert found["tensors, cache by sequences"].cache_bytes == pytest.approx(whole / 8)


def test_several_chips_need_links():
    with pytest.raises(ValueError, match="m4-pro has no links"):
        by_name("llama-3-8b", "m4-pro")


def test_the_numbers_of_the_exercises():
    """Of section 6.12: the gated crossover, the floor of a token, and two machines with slow links between them."""
    large = ModelConfig.from_preset("llama-3.1-405b")
    D, F = large.d_model, large.d_ff
    assert (D, F, large.n_layers, large.gated, 6 * F / D) == (16384, 53248, 126, True, 19.5)
    for chips, fewest in ((16, 36352), (32, 26368)):
        mesh = min(
            ((X, chips // X, 1) for X in (1, 2, 4, 8, 16)),
            key=lambda m: sum(cost.ffn_communication("2d-ws", 1, D, F, m, True).values()),
        )
        assert mesh[0] == 2 and sum(cost.ffn_communication("2d-ws", 1, D, F, mesh, True).values()) == fewest
    assert (round(36352 / (2 * D), 2), round(26368 / (2 * D), 2)) == (1.11, 0.80)

    one = cost.step(ModelConfig.from_preset("llama-2-70b"), "a100", 1, 1, 200)
    assert 1e3 * one.weights_s == pytest.approx(67.4, abs=0.1) and 1e3 * one.serial_s == pytest.approx(67.9, abs=0.05)
    assert 67.9 / 17 < 2 * 80 * 25e-3 < 67.9 / 16

    h100 = cost.CHIPS["h100"]
    flat = cost.step(large, replace(h100, link_bandwidth=50e9), 16, 64, 1000, layout="1d-ws", attention="head")
    assert cost.weight_bytes(large) / 1e9 == pytest.approx(812, abs=0.5)
    assert 1e3 * cost.weight_bytes(large) / 16 / h100.hbm_bandwidth == pytest.approx(15.1, abs=0.06)
    assert 1e3 * flat.communication_s == pytest.approx(19.8, abs=0.05)
    staged = cost.step(large, h100, 8, 32, 1000, layout="1d-ws", attention="head")
    assert 1e3 * staged.communication_s == pytest.approx(0.5, abs=0.02)
    assert pytest.approx(0.02e-3, rel=0.06) == 32 * D * 2 / 50e9
