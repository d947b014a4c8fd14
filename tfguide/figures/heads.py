"""Fewer key/value heads in pictures: who reads whom, and what steps and caches of each number of heads take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.figures.canvas import box, canvas, line, text
from tfguide.figures.style import BLUE, DASHES, GOLD, PALETTE, TEAL, WIDTH, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

_ROW, _SIDE, _HIGH = 1.2, 0.42, 0.3  # inches: from one kind to the next, width and height of a box


def sharing(n_heads: int = 6) -> Figure:
    """Query heads over what they read, for multi-head, grouped, multi-query and latent attention.

    n_heads: an even number of query heads; grouped attention has half as many key/value heads.
    """
    kinds = (
        ("multi-head", n_heads), ("grouped-query", n_heads // 2), ("multi-query", 1), ("latent", 0),
    )  # fmt: skip
    with style():
        ax = canvas(WIDTH, _ROW * len(kinds))
        for k, (name, n_kv_heads) in enumerate(kinds):
            _kind(ax, k * _ROW + 0.08, name, n_heads, n_kv_heads)
    return ax.figure


def _kind(ax, top, name, n_heads, n_kv_heads):
    left, right = 1.3, WIDTH - 0.1
    step = (right - left) / n_heads
    text(ax, 0.05, top + 0.5, name, 10.5, ha="left", fontweight="bold")
    low = top + 0.62
    queries = [left + (h + 0.5) * step for h in range(n_heads)]
    n_boxes = n_kv_heads or 1
    wide = (right - left) / n_boxes
    kept = [left + (k + 0.5) * wide for k in range(n_boxes)]
    for h, x in enumerate(queries):
        line(ax, (x, top + _HIGH), (kept[h * n_boxes // n_heads], low), width=1.0)
        box(ax, x - _SIDE / 2, top, _SIDE, _HIGH, f"Q{h}", BLUE, size=9)
    for k, x in enumerate(kept):
        if n_kv_heads:
            broad = min(2 * _SIDE, 0.9 * wide)
            box(ax, x - broad / 2, low, broad, _HIGH, f"K{k} V{k}" if n_kv_heads > 1 else "K V", GOLD, size=8.5)
        else:
            box(ax, x - 1.1, low, 2.2, _HIGH, "one latent, one rotated part", TEAL, size=9)


def steps_by_heads(result: Mapping[str, Any]) -> Figure:
    """Milliseconds of a step by the length of the text, a curve for each number of key/value heads.

    result: of `tfguide bench heads`.
    """
    rows = result["rows"]
    lengths = sorted({row["prompt"] for row in rows})
    with style():
        fig, ax = plt.subplots(figsize=size(0.6))
        for index, K in enumerate(sorted({row["n_kv_heads"] for row in rows}, reverse=True)):
            own = {row["prompt"]: 1e3 * row["seconds"] for row in rows if row["n_kv_heads"] == K}
            look = {"color": PALETTE[index], "linestyle": DASHES[index], "marker": "os^D"[index % 4]}
            ax.plot(lengths, [own[n] for n in lengths], label=f"K = {K}", markersize=4, **look)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("tokens before the step")
        ax.set_ylabel("ms for a step")
        ax.grid(True)
        ax.legend()
    return fig


def heads_table(result: Mapping[str, Any]) -> HTML:
    """The steps and the cache at the longest text of a result of `tfguide bench heads`, beside what their bytes say."""
    longest = max(row["prompt"] for row in result["rows"])
    rows = [row for row in result["rows"] if row["prompt"] == longest]
    most = max(rows, key=lambda row: row["n_kv_heads"])
    lines = [
        (
            f"K = {row['n_kv_heads']}", f"{1e3 * row['seconds']:.1f} ms", f"{most['seconds'] / row['seconds']:.1f} x",
            f"{most['bytes'] / row['bytes']:.1f} x", f"{row['cache_bytes'] / 1e6:.0f} MB",
        )
        for row in rows
    ]  # fmt: skip
    return table(("heads", f"step after {longest:,}", "faster", "by its bytes", "cache"), lines)
