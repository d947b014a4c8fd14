"""The figures of the cost model: sweeps, the roofline, intensity by batch, and predictions against measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide import cost
from tfguide.config import ModelConfig
from tfguide.cost.caches import CacheRow
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

_MARKERS = "osD^v<>PX*"


def sweep(name: str, points: Sequence[tuple[int, float, float, int]], title: str) -> Figure:
    """Milliseconds a token and tokens a second by batch, context or chips: (value, ms, tokens/s, chips) each.

    The figure is for a file: black on white, not in the colours of a page.
    """
    values, milliseconds, speed, chips = (np.array(column) for column in zip(*points, strict=True))
    fig, axes = plt.subplots(1, 2, figsize=size(0.42), constrained_layout=True)
    for ax, y, label in ((axes[0], milliseconds, "milliseconds a token"), (axes[1], speed, "tokens a second")):
        ax.plot(values, y, color=PALETTE[0], marker="o", markersize=3)
        ax.set_xlabel(name)
        ax.set_ylabel(label)
        if values[-1] > 20 * values[0]:
            ax.set_xscale("log")
        ax.set_ylim(bottom=0)
        for index in range(1, len(values)):
            if chips[index] != chips[index - 1]:  # where another number of chips is the cheapest
                ax.annotate(
                    f"{chips[index]} chips", (values[index], y[index]), (2, 8), textcoords="offset points", size=7
                )
    fig.suptitle(title)
    return fig


def roofline(
    peaks: Mapping[str, float],
    bandwidths: tuple[float, float],
    points: Sequence[tuple[str, float, float]],
    unit: str = "GFLOP/s",
) -> Figure:
    """Operations a second by operations for each byte: a roof for each peak, and what was measured.

    peaks: operations a second by name; bandwidths: the least and the most bytes a second that the memory delivered,
    shaded between; points: (name, operations per byte, operations a second).
    """
    scale = {"GFLOP/s": 1e9, "TFLOP/s": 1e12}[unit]
    slow = bandwidths[0]
    ends = [x for _, x, _ in points]
    x = np.geomspace(min([0.25, *ends]) / 1.5, 2 * max([*ends, max(peaks.values()) / slow]), 400)
    with style():
        fig, ax = plt.subplots(figsize=size(0.95))
        for index, (name, peak) in enumerate(peaks.items()):
            look = {"color": ink(), "linestyle": DASHES[index], "linewidth": 1.2}
            for bandwidth in bandwidths:
                label = f"peak, {name}" if bandwidth == slow else None
                ax.loglog(x, np.minimum(peak, bandwidth * x) / scale, label=label, **look)
        top = max(peaks.values())
        shade = [np.minimum(top, bandwidth * x) / scale for bandwidth in bandwidths]
        ax.fill_between(x, *shade, color=PALETTE[0], alpha=0.2, linewidth=0, label="memory, slowest to fastest")
        for index, (name, intensity, rate) in enumerate(points):
            at = {"marker": _MARKERS[index % len(_MARKERS)], "color": PALETTE[index % len(PALETTE)]}
            ax.plot(intensity, rate / scale, markersize=6, label=name, linestyle="none", **at)
        ax.set_xlim(x[0], x[-1])
        ax.set_xlabel("operations for each byte read")
        ax.set_ylabel(unit)
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def intensity(config: ModelConfig, chip: cost.Chip, contexts: Sequence[int], batches: int = 4096) -> Figure:
    """Operations for each byte of a step of decoding, by batch, one curve for each context, and the chip's own ratio.

    A curve is solid as far as the sequences fit into the memory of one chip, and dotted beyond. Types are bfloat16.
    """
    with style():
        fig, ax = plt.subplots(figsize=size(0.8))
        for index, context in enumerate(contexts):
            most = rows_that_fit(config, chip, context)
            every = np.unique(np.geomspace(1, batches, 120).astype(int))
            inside, beyond = [b for b in every if b <= most] + [most] * (most < batches), [b for b in every if b > most]
            colour = PALETTE[index % len(PALETTE)]
            values = [cost.decode_intensity(config, context, int(b)) for b in inside]
            ax.plot(inside, values, color=colour, linestyle="-", label=f"{context:,} tokens each")
            if beyond:
                values = [cost.decode_intensity(config, context, int(b)) for b in beyond]
                ax.plot(beyond, values, color=colour, linestyle=DASHES[2], linewidth=1.2)
                ax.plot(most, cost.decode_intensity(config, context, most), "o", color=colour, markersize=5)
        ax.axhline(chip.critical_intensity, color=ink(), linestyle=DASHES[1], linewidth=1.2)
        note = f"above: arithmetic limits ({chip.critical_intensity:.0f})"
        ax.text(1.1, 1.08 * chip.critical_intensity, note, ha="left", va="bottom", fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ticks = [2**i for i in range(0, 13, 2) if 2**i <= batches]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
        ax.minorticks_off()
        ax.set_xlabel("sequences in the batch")
        ax.set_ylabel("operations for each byte")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def rows_that_fit(config: ModelConfig, chip: cost.Chip, context: int) -> int:
    """How many sequences of so many tokens fit beside the weights into all of one chip's memory, both in bfloat16."""
    return int((chip.hbm_bytes - cost.weight_bytes(config)) // cost.kv_bytes(config, 1, context))


def predictions(rows: Sequence[tuple[str, float, float]]) -> Figure:
    """Predicted against measured seconds, (name, measured, predicted): on the diagonal they agree, dotted: 25% off."""
    names = list(dict.fromkeys(name for name, _, _ in rows))
    low = 0.7 * min(min(m, p) for _, m, p in rows)
    high = 1.4 * max(max(m, p) for _, m, p in rows)
    ends = np.array([low, high])
    with style():
        fig, ax = plt.subplots(figsize=size(1.15))
        ax.loglog(ends, ends, color=ink(), linewidth=1.0, linestyle="-")
        for factor in (0.75, 1.25):
            ax.loglog(ends, factor * ends, color=ink(), linewidth=0.8, linestyle=(0, (1, 2)))
        for index, name in enumerate(names):
            mine = [(m, p) for n, m, p in rows if n == name]
            at = {"marker": _MARKERS[index % len(_MARKERS)], "color": PALETTE[index % len(PALETTE)]}
            ax.plot(*zip(*mine, strict=True), linestyle="none", label=name, **at)
        ax.set_xlabel("measured, seconds")
        ax.set_ylabel("predicted, seconds")
        fig.legend(loc="outside lower center", ncols=1)
    return fig


def caches(rows: Sequence[CacheRow]) -> Figure:
    """The mean bytes that a token takes in the cache, by the tokens of the text; a full window lets a curve fall.

    rows: of `tfguide.cost.caches.cache_rows`, all with the same contexts.
    """
    with style():
        fig, ax = plt.subplots(figsize=size(1.05))
        for index, row in enumerate(rows):
            contexts, means = zip(*sorted(row.by_context.items()), strict=True)
            look = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
            marker = _MARKERS[index % len(_MARKERS)]
            ax.plot(contexts, [mean / 1024 for mean in means], marker=marker, markersize=4, label=row.name, **look)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ticks = contexts[::3] if len(contexts) > 5 else contexts
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        lowest, highest = (f(mean for row in rows for mean in row.by_context.values()) / 1024 for f in (min, max))
        ticks = [2**i for i in range(20) if lowest / 2 <= 2**i <= 2 * highest]
        ax.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("tokens of the text")
        ax.set_ylabel("KiB for each token")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def caches_table(rows: Sequence[CacheRow]) -> HTML:
    """The caches of models: the KiB that a token adds, and the gigabytes of one text at each context of the rows."""
    contexts = sorted(rows[0].by_context)
    head = (
        "model",
        "KiB for a token",
        *(f"GB, {context:,} tokens" for context in contexts),
        "layers",
        "key/value heads",
    )
    lines = [
        (
            row.name,
            f"{row.token_bytes / 1024:,.1f}",
            *(f"{row.gigabytes(s):.2f}" for s in contexts),
            row.layers,
            row.kind,
        )
        for row in rows
    ]
    return table(head, lines)


def experts_read(names: Sequence[str], batches: int = 1024) -> Figure:
    """The part of a layer's experts that a step reads, by the tokens of the step, if tokens fall evenly on experts.

    names: presets with experts.
    """
    with style():
        fig, ax = plt.subplots(figsize=size(0.8))
        every = np.unique(np.geomspace(1, batches, 60).astype(int))
        for index, name in enumerate(names):
            config = ModelConfig.from_preset(name)
            n, k = config.experts.n_experts, config.experts.per_token
            look = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index % len(DASHES)]}
            shares = [100 * cost.experts_read(config, int(tokens)) / n for tokens in every]
            ax.plot(every, shares, label=f"{name}: {k} of {n}", **look)
        ax.set_xscale("log", base=2)
        ticks = [2**i for i in range(0, 21, 2) if 2**i <= batches]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set_ylim(0, 105)
        ax.set_xlabel("tokens of a step")
        ax.set_ylabel("% of a layer's experts")
        ax.grid(True)
        fig.legend(loc="outside lower center", ncols=1)
    return fig
