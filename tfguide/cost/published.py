"""The published numbers that the cost model is held against, each with its source and what it was computed as here.

A row says how near the two must be. "exact": pure arithmetic, within the printed digits. "tight": within the stated
few per cent. "bound": what was measured is slower than the model's ideal, and the ratio is shown, not fitted.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from tfguide.config import ModelConfig
from tfguide.cost.memory import kv_bytes, kv_bytes_per_token, max_context
from tfguide.cost.parameters import active_parameters, parameters
from tfguide.cost.speculative import speculative_speedup, speculative_tokens
from tfguide.cost.step import bandwidth_seconds, mfu, parameters_read, step
from tfguide.sharding.layouts import LAYOUTS, ffn_communication

POPE = "Pope et al. 2022"
SCALING = "scaling-book, inference chapter"
LEVIATHAN = "Leviathan et al. 2023, table 2"


@dataclass(frozen=True)
class Row:
    """One published number beside ours. tolerance: relative, or absolute where `absolute`; none for a bound."""

    source: str
    what: str
    unit: str
    published: float
    computed: float
    kind: str
    tolerance: float | None = None
    absolute: bool = False

    @property
    def difference(self) -> float:
        """Ours less the published one: relative, or absolute where the tolerance is."""
        gap = self.computed - self.published
        return gap if self.absolute else gap / self.published

    @property
    def agrees(self) -> bool | None:
        """Whether the two are as near as they must be; None for a bound."""
        return None if self.tolerance is None else abs(self.difference) <= self.tolerance * (1 + 1e-9)


def rows() -> list[Row]:
    """Every published number, in the order of the sources."""
    parts = (
        _parameter_counts,
        _kv,
        _contexts,
        _mfus,
        _communication,
        _figure_6,
        _steps,
        _scaling_book,
        _speculative,
        _gpt_fast,
        _mlperf,
    )
    return [row for part in parts for row in part()]


# Published parameter counts: the models' own pages and papers; PaLM's to the printed digits.
COUNTS = {
    "gpt2": 124_439_808, "gpt2-xl": 1_557_611_200, "bert-base": 109_482_240, "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496, "mistral-7b": 7_241_732_096,
}  # fmt: skip
PALM = {"palm-8b": 8.63, "palm-62b": 62.50, "palm-540b": 540.35}
KV = {
    "gpt2": 36_864, "gpt2-xl": 307_200, "llama-2-7b": 524_288, "llama-2-13b": 819_200, "llama-2-70b": 327_680,
    "llama-3-8b": 131_072, "llama-3-70b": 327_680, "mistral-7b": 131_072,
}  # fmt: skip
# Figure 6: milliseconds for a token of PaLM 540B, batch 512, read from the figure: {chips: (2D, 1D)}
FIGURE_6 = {64: (92.04, 96.05), 128: (73.04, 93.93), 256: (67.38, 88.85)}
# Figure 3: GB of one layer's communication, by tokens: 2D, X, XY, XYZ; of (d_model, d_ff, mesh)
FIGURE_3_SIZES = 16384, 65536, (4, 4, 4)
FIGURE_3 = {
    2_048: (0.0671, 0.3020, 1.0821, 4.2950),
    65_536: (2.1475, 1.3422, 1.3422, 4.2950),
    1_048_576: (34.3597, 17.4483, 5.3687, 4.2950),
}
# Table D.3: batch, then milliseconds and per cent for FasterTransformer on 16 and 32 A100s and PaLM on 64 TPU v4.
TABLE_D3 = {
    4: ((1512, 4), (1198, 3), (50, 29), (640, 1), (690, 3)),
    16: ((1868, 15), (1454, 9), (153, 39), (602, 3), (755, 10)),
    64: ((3383, 32), (2646, 21), (501, 47), (717, 11), (1218, 26)),
    128: ((5406, 40), (4099, 27), (985, 48), (829, 19), (1814, 35)),
}
# Table 3, PaLM 62B: chips, sequences, tokens of each, type of the weights, seconds, per cent
TABLE_3 = {
    "low-latency prefill": (16, 1, 2048, "int8", 0.16, 36), "low-latency decode": (16, 32, 64, "int8", 0.73, 8),
    "high-throughput prefill": (32, 512, 2048, "bfloat16", 20.2, 73),
    "high-throughput decode": (8, 512, 64, "bfloat16", 5.1, 37),
}  # fmt: skip
# Tokens a second of gpt-fast in bfloat16, one sequence, by the A100s that share the model
GPT_FAST = {
    "llama-2-7b": {1: 104.9, 2: 168.84, 4: 254.02, 8: 328.43}, "llama-2-70b": {2: 21.32, 4: 38.01, 8: 62.50},
}  # fmt: skip
# MLPerf Inference v4.1, closed division, server, Llama 2 70B in float8 on 8 H100, four copies on two chips each: tokens
# a second, and the mean seconds between two tokens of a text.
MLPERF_TOKENS, MLPERF_SECONDS, MLPERF_COPIES = 21_605.79, 0.154960329, 4
# By Little's law, the texts that a copy writes at the same time. It may hold 1024.
MLPERF_BATCH = round(MLPERF_TOKENS * MLPERF_SECONDS / MLPERF_COPIES)
MLPERF_CONTEXT = 440  # ours: no log has it. A mean answer has 290 tokens, and a prompt about as many.


def palm(**changes) -> ModelConfig:
    """PaLM 540B, or one that differs from it."""
    return ModelConfig.from_preset("palm-540b", **changes)


def _parameter_counts():
    for name, published in COUNTS.items():
        computed = parameters(ModelConfig.from_preset(name))
        yield Row("the models' published weights", f"{name}, parameters", "", published, computed, "exact", 0, True)
    for name, published in PALM.items():
        computed = parameters(ModelConfig.from_preset(name)) / 1e9
        yield Row(f"{POPE}, table D.1", f"{name}, parameters", "10^9", published, computed, "exact", 0.0075, True)
    for name, published in (("mixtral-8x7b", 12.9), ("deepseek-v3", 37.0)):
        computed = active_parameters(ModelConfig.from_preset(name)) / 1e9
        yield Row("the models' papers", f"{name}, active parameters", "10^9", published, computed, "tight", 0.02)


def _kv():
    for name, published in KV.items():
        computed = kv_bytes_per_token(ModelConfig.from_preset(name))
        yield Row(
            "the models' configuration files",
            f"{name}, cache of a token",
            "bytes",
            published,
            computed,
            "exact",
            0,
            True,
        )
    computed = kv_bytes_per_token(ModelConfig.from_preset("opt-13b"))
    yield Row("Kwon et al. 2023, OPT-13B", "cache of a token", "bytes", 819_200, computed, "exact", 0, True)
    multihead = kv_bytes(palm(n_kv_heads=48, d_head=128), 512, 2048) / 1e12
    yield Row(f"{POPE}, section 3.3", "cache, multihead 540B, batch 512", "TB", 3.0, multihead, "tight", 0.02)


def _contexts():
    multihead = palm(n_kv_heads=48, d_head=128)
    for what, config, attention, padded, published in (
        ("multihead", multihead, "head", 64, (1320, 330)),
        ("multiquery over heads", palm(), "head", None, (660, 165)),
        ("multiquery over batch", palm(), "batch", None, (43_000, 10_700)),
    ):
        for batch, longest in zip((128, 512), published, strict=True):
            computed = max_context(config, "tpu-v4", 64, batch, 0.3, attention, padded_heads=padded)
            yield Row(
                f"{POPE}, table 1", f"context, {what}, batch {batch}", "tokens", longest, computed, "tight", 0.011
            )


def _mfus():
    peak = 275e12
    for what, tokens, seconds, published in (
        ("low-latency prefill", 2048, 0.29, 43),
        ("low-latency decode", 64 * 64, 1.82, 14),
        ("high-throughput prefill", 512 * 2048, 85.2, 76),
        ("high-throughput decode", 512 * 64, 6.0, 33),
    ):
        computed = 100 * mfu(540e9, tokens, seconds, 64, peak)
        yield Row(f"{POPE}, table 2", what, "% MFU", published, computed, "exact", 0.8, True)
    for what, (chips, batch, tokens, _, seconds, published) in TABLE_3.items():
        computed = 100 * mfu(62.5e9, batch * tokens, seconds, chips, peak)
        yield Row(f"{POPE}, table 3", f"62B, {what}", "% MFU", published, computed, "exact", 0.8, True)
    columns = (
        ("FasterTransformer TP16", 530e9, 16, 312e12, 80),
        ("FasterTransformer TP32", 530e9, 32, 312e12, 80),
        ("PaLM prefill", 540e9, 64, peak, 60),
        ("PaLM generate", 540e9, 64, peak, 20),
        ("PaLM total", 540e9, 64, peak, 80),
    )
    for batch, cells in TABLE_D3.items():
        for (what, n, chips, flops, tokens), (milliseconds, published) in zip(columns, cells, strict=True):
            computed = 100 * mfu(n, batch * tokens, milliseconds / 1e3, chips, flops)
            yield Row(f"{POPE}, table D.3", f"{what}, batch {batch}", "% MFU", published, computed, "exact", 0.8, True)


def _communication():
    for tokens, cells in FIGURE_3.items():
        for layout, published in zip(LAYOUTS[1:], cells, strict=True):
            computed = 2 * sum(ffn_communication(layout, tokens, *FIGURE_3_SIZES).values()) / 1e9
            yield Row(
                f"{POPE}, figure 3", f"{layout}, {tokens:,} tokens", "GB", published, computed, "exact", 5e-5, True
            )


def _figure_6():
    for chips, measured in FIGURE_6.items():
        for layout, milliseconds in zip(("2d-ws", "1d-ws"), measured, strict=True):
            one = step(palm(), "tpu-v4", chips, 512, 2048, layout=layout)
            yield from _bounds(f"{POPE}, figure 6", f"{layout}, {chips} chips, ", milliseconds, one)


def _scaling_book():
    for batch, total, milliseconds, speed in (
        (1, 32.7, 4.98, 200.61),
        (8, 79.6, 12.13, 659.30),
        (64, 454.8, 69.33, 923.13),
    ):
        n_bytes = 26e9 + batch * 6.7e9
        seconds = bandwidth_seconds(n_bytes, 8, 8.2e11)
        source, what = SCALING, f"Llama 2 13B, batch {batch}, "
        yield Row(source, what + "bytes read", "GB", total, n_bytes / 1e9, "exact", 0.051, True)
        yield Row(source, what + "step", "ms", milliseconds, 1e3 * seconds, "exact", 0.0051, True)
        yield Row(source, what + "speed", "tokens/s", speed, batch / seconds, "exact", 0.06, True)
    llama = ModelConfig.from_preset("llama-3-70b")
    source, what = SCALING, "Llama 3 70B in int8, "
    n_bytes = parameters(llama) + kv_bytes(llama, 32, 8192, "int8")
    yield Row(source, what + "cache of a token", "bytes", 163_840, kv_bytes_per_token(llama, "int8"), "exact", 0, True)
    yield Row(source, what + "weights and cache, batch 32", "GB", 112.9, n_bytes / 1e9, "tight", 0.06)
    for chips, milliseconds in ((8, 17.28), (16, 8.64)):
        one = step(llama, "tpu-v5e", chips, 32, 8192, weights="int8", kv="int8")
        computed = 1e3 * (one.weights_s + one.kv_s)
        yield Row(source, what + f"step, {chips} TPU v5e", "ms", milliseconds, computed, "tight", 0.06)
    seconds = 2 * parameters(llama) * 8192 / (16 * 197e12 * 0.4)
    yield Row(source, what + "prefill of 8192, 16 chips, 40% MFU", "s", 0.91, seconds, "tight", 0.06)


def _speculative():
    for draft, g, a, expected, measured in (
        ("77M", 7, 0.75, 3.600, 3.4),
        ("250M", 7, 0.80, 4.161, 2.8),
        ("800M", 7, 0.82, 4.420, 1.7),
    ):
        source, what = LEVIATHAN, f"T5-XXL, draft of {draft}, "
        yield Row(source, what + "tokens a pass", "", expected, speculative_tokens(a, g), "exact", 0.0005, True)
        cost = float(draft[:-1]) / 11_000  # of reading parameters: the paper measured c, and does not print it
        yield Row(source, what + "speed-up, c by parameters", "x", measured, speculative_speedup(a, g, cost), "bound")


def _steps():
    for weights, published in (("int8", 28.5), ("bfloat16", 36.9)):
        one = step(palm(), "tpu-v4", 64, 64, 2048, weights=weights)
        yield from _bounds(f"{POPE}, section 4", f"{weights}, batch 64, ", published, one)
    for what, (chips, batch, tokens, weights, seconds, _) in TABLE_3.items():
        if "decode" in what:
            one = step(ModelConfig.from_preset("palm-62b"), "tpu-v4", chips, batch, 2048, weights=weights)
            yield from _bounds(f"{POPE}, table 3", f"62B, {weights}, {chips} chips, ", 1e3 * seconds / tokens, one)
    for what, milliseconds, published in (("multihead", 47, 46), ("multiquery", 3.9, 3.8)):
        computed = 1e3 * milliseconds / 1024
        yield Row("Shazeer 2019, table 3", f"{what}, a token of 1024", "us", published, computed, "exact", 0.15, True)


def _gpt_fast():
    llama = ModelConfig.from_preset("llama-2-7b")
    n_bytes = 2 * parameters_read(llama)
    yield Row("gpt-fast README, Llama 2 7B", "bytes read a token", "GB", 13.32, n_bytes / 1e9, "tight", 0.013)
    for what, bytes_each, speed in (("int8", 1, 155.58), ("int4", 0.625, 196.80)):
        ideal = 2039e9 / (bytes_each * parameters_read(llama))
        yield Row("gpt-fast README, Llama 2 7B", f"{what}, 1 A100", "tokens/s", speed, ideal, "bound")
    for model, speeds in GPT_FAST.items():
        source = f"gpt-fast README, Llama 2 {model.rpartition('-')[2].upper()}"
        for chips, speed in speeds.items():
            ideal = chips * 2039e9 / (2 * parameters_read(ModelConfig.from_preset(model)))
            yield Row(source, f"bf16, {chips} A100", "tokens/s", speed, ideal, "bound")


def _mlperf():
    float8 = dict(weights="float8", kv="float8", products="float8")
    llama = ModelConfig.from_preset("llama-2-70b")
    one = step(llama, "h100", 2, MLPERF_BATCH, MLPERF_CONTEXT, layout="1d-ws", attention="head", **float8)
    what = f"Llama 2 70B, 2 H100, batch {MLPERF_BATCH}, "
    yield from _bounds("MLPerf Inference v4.1, server", what, 1e3 * MLPERF_SECONDS, one)


def _bounds(source, what, milliseconds, one):
    """The two times of a step beside a measured one."""
    for how, seconds in (("roofline", one.roofline_s), ("serial", one.serial_s)):
        yield Row(source, what + how, "ms a token", milliseconds, 1e3 * seconds, "bound")


def crossovers() -> list[float]:
    """The tokens from which each layout of figure 3 sends less than the one before it.

    >>> [round(tokens) for tokens in crossovers()]
    [16384, 65536, 786432]
    """
    points = []
    for before, after in itertools.pairwise(LAYOUTS[1:]):
        base, slope = zip(*(_line(layout) for layout in (before, after)), strict=True)
        points.append((base[1] - base[0]) / (slope[0] - slope[1]) if slope[0] != slope[1] else math.inf)
    return points


def _line(layout):
    one, two = (sum(ffn_communication(layout, t, *FIGURE_3_SIZES).values()) for t in (1, 2))
    return 2 * one - two, two - one
