"""Every published number of the table is met within its tolerance, and every bound holds."""

import pytest

from tfguide import ModelConfig, cost
from tfguide.cost.published import FIGURE_3, crossovers, rows

ROWS = rows()


@pytest.mark.parametrize("row", [r for r in ROWS if r.tolerance is not None], ids=lambda r: f"{r.source}: {r.what}")
def test_a_published_number(row):
    assert row.agrees, f"published {row.published}, computed {row.computed}, difference {row.difference}"


def test_all_the_sources_are_there():
    assert len(ROWS) > 100
    for source in ("table 1", "table 2", "table 3", "table D.3", "figure 3", "figure 6", "scaling-book", "Leviathan",
                   "gpt-fast", "MLPerf"):  # fmt: skip
        assert any(source in row.source for row in ROWS)


def test_a_row_can_disagree():
    row = next(r for r in ROWS if "table 1" in r.source)
    assert not type(row)(row.source, row.what, row.unit, row.published, row.published * 1.02, "tight", 0.011).agrees


def test_what_was_measured_is_slower_than_the_ideal():
    """PaLM on its chips, Llama on one A100 to eight and on two H100; the speed-ups of speculation lie on both sides."""
    times = [r for r in ROWS if r.kind == "bound" and r.unit == "ms a token"]
    ratios = {how: [r.published / r.computed for r in times if how in r.what] for how in ("roofline", "serial")}
    assert min(ratios["roofline"]) > 2.5 and max(ratios["roofline"]) < 11.2
    assert min(ratios["serial"]) > 1.4 and max(ratios["serial"]) < 4.2
    speeds = [r.published / r.computed for r in ROWS if r.kind == "bound" and r.unit == "tokens/s"]
    assert min(speeds) > 0.25 and max(speeds) < 0.73
    gains = [r.computed / r.published - 1 for r in ROWS if r.unit == "x"]
    assert min(gains) > -0.23 and max(gains) < 0.75


def test_the_layouts_of_figure_3_cross_where_the_paper_says():
    assert crossovers() == pytest.approx([16_384, 65_536, 786_432])
    assert sorted(FIGURE_3) == list(FIGURE_3)


def test_two_dimensions_beat_one_from_16_chips_on():
    def elements(layout, chips):
        mesh = cost.best_mesh(layout, chips, 64, 4096, 16384)
        return sum(cost.ffn_communication(layout, 64, 4096, 16384, mesh).values())

    assert elements("2d-ws", 64) < elements("1d-ws", 64)
    assert elements("2d-ws", 8) > elements("1d-ws", 8)
    n = 64  # the best X is sqrt(n) / 2, where the sum is 8 B L E / sqrt(n)
    assert sum(cost.ffn_communication("2d-ws", 64, 4096, 16384, (4, 4, 4)).values()) == 8 * 64 * 4096 / n**0.5


def test_critical_batches():
    """Where a step in bfloat16 turns from reading to computing: 2 operations for each parameter of 2 bytes."""
    assert round(cost.CHIPS["tpu-v5e"].critical_intensity) == 241  # printed: 240
    assert round(cost.CHIPS["h100"].critical_intensity) == 295  # printed: 298, from 990 and 3.35 with rounding


# Gemma Team 2025, table 1: parameters beside the embedding, in millions.
GEMMA = {"gemma-3-1b": 698, "gemma-3-4b": 3_209, "gemma-3-12b": 10_759, "gemma-3-27b": 25_600}
# OpenAI 2025, arXiv 2508.10925, table 1: parameters in all, active ones without the embedding's rows, and the GiB of a
# checkpoint whose experts are in MXFP4, 4.25 bits each.
GPT_OSS = {"gpt-oss-20b": (20.91, 3.61, 12.8), "gpt-oss-120b": (116.83, 5.13, 60.8)}
# The models' pages and papers: parameters in all and for a token, as they print them.
PRINTED = {
    "mixtral-8x7b": (46.7, 12.9), "mixtral-8x22b": (141, 39), "mistral-small-24b": (23.6, 23.6),
    "phi-4": (14.7, 14.7), "deepseek-r1": (671, 37), "qwen3-30b-a3b": (30.5, 3.3), "qwen3-235b-a22b": (235, 22),
}  # fmt: skip


def test_counts_of_newer_models():
    for name, millions in GEMMA.items():
        config = ModelConfig.from_preset(name)
        assert round((cost.parameters(config) - config.vocab_size * config.d_model) / 1e6) == millions, name
    assert cost.parameters(ModelConfig.from_preset("gemma-3-1b")) == 999_885_952
    for name, (total, active, gib) in GPT_OSS.items():
        config = ModelConfig.from_preset(name)
        assert round(cost.parameters(config) / 1e9, 2) == total
        assert round(cost.parameters_read(config, 1) / 1e9, 2) == active
        assert round(cost.weight_bytes(config, "bfloat16", "mxfp4") / 2**30, 1) == gib
    for name, (total, active) in PRINTED.items():
        config = ModelConfig.from_preset(name)
        assert cost.parameters(config) / 1e9 == pytest.approx(total, rel=0.003), name
        assert cost.active_parameters(config) / 1e9 == pytest.approx(active, rel=0.02), name


def test_counts_of_transformers():
    """The integers again, from the layers of another implementation, without memory for their weights."""
    import torch
    import transformers

    for name, config in (
        ("mixtral-8x7b", transformers.MixtralConfig()),
        ("llama-3-70b", transformers.LlamaConfig(
            vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
            num_attention_heads=64, num_key_value_heads=8,
        )),
        ("qwen2.5-7b", transformers.Qwen2Config(
            vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28,
            num_attention_heads=28, num_key_value_heads=4,
        )),
        ("qwen3-8b", transformers.Qwen3Config(
            vocab_size=151936, hidden_size=4096, intermediate_size=12288, num_hidden_layers=36,
            num_attention_heads=32, num_key_value_heads=8, head_dim=128,
        )),
        ("qwen3-30b-a3b", transformers.Qwen3MoeConfig(
            vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=48,
            num_attention_heads=32, num_key_value_heads=4, head_dim=128, moe_intermediate_size=768,
            num_experts=128, num_experts_per_tok=8,
        )),
        ("deepseek-v3", transformers.DeepseekV3Config()),
        ("gpt-oss-20b", transformers.GptOssConfig(num_hidden_layers=24, num_local_experts=32)),
        ("gpt-oss-120b", transformers.GptOssConfig()),
        ("gemma-3-27b", transformers.Gemma3TextConfig(
            hidden_size=5376, intermediate_size=21504, num_hidden_layers=62, num_attention_heads=32,
            num_key_value_heads=16, head_dim=128,
        )),
    ):  # fmt: skip
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        count = sum(p.numel() for p in model.parameters())
        experts = ModelConfig.from_preset(name).experts
        if experts is not None and experts.correction_bias:  # there it is a buffer
            count += sum(b.numel() for n, b in model.named_buffers() if n.endswith("e_score_correction_bias"))
        assert count == cost.parameters(ModelConfig.from_preset(name)), name


@pytest.mark.parametrize(("gated", "crossover"), [(False, 16), (True, 24)])
def test_two_dimensions_send_less_from_more_chips_on_where_the_network_is_gated(gated, crossover):
    """With F = 4D: at P = 4 F / D and 6 F / D both send 2 BT D, if X divides the chips as it must."""

    def least(layout, chips):
        shapes = [(x, chips // x, 1) for x in range(1, chips + 1) if chips % x == 0]
        return min(sum(cost.ffn_communication(layout, 7, 4096, 16384, shape, gated).values()) for shape in shapes)

    assert least("2d-ws", crossover) == pytest.approx(least("1d-ws", crossover))
    assert least("2d-ws", 4 * crossover) == pytest.approx(least("1d-ws", 4 * crossover) / 2)
    for chips in range(2, crossover):
        assert least("2d-ws", chips) > least("1d-ws", chips)


@pytest.mark.parametrize("exact", [False, True])
def test_where_all_weights_are_gathered_no_activation_travels(exact):
    for layout, mesh in (("wg-xyz", (2, 3, 4)), ("wg-xy", (2, 3, 1)), ("wg-x", (6, 1, 1))):
        terms = cost.ffn_communication(layout, 10**6, 48, 96, mesh, exact=exact)
        chips = mesh[0] * mesh[1] * mesh[2]
        assert sum(terms.values()) == pytest.approx(2 * 48 * 96 * ((chips - 1) / chips if exact else 1))
