"""Which position may look at which: masks as grids of cells, and weights of attention as shaded cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 4.8  # inches


def mask_grid(masks: Mapping[str, np.ndarray]) -> Figure:
    """Masks as grids, two in a row: a filled cell says that the query may look at the key.

    masks: title to boolean (T, S); the queries are the last T of the S positions.
    """
    rows = -(-len(masks) // 2)
    with style.style():
        fig, axes = plt.subplots(rows, 2, figsize=(_WIDTH, 2.55 * rows), squeeze=False)
        for ax in axes.flat[len(masks) :]:
            ax.axis("off")
        for ax, (title, visible) in zip(axes.flat, masks.items(), strict=False):
            T, S = visible.shape
            for t, s in np.ndindex(T, S):
                canvas.cell(ax, s - 0.44, t - 0.44, 0.88, 0.88, style.TEAL if visible[t, s] else None)
            ax.set_xlim(-0.6, S - 0.4)
            ax.set_ylim(T - 0.4, -0.6)
            ax.set_aspect("equal")
            ax.set_title(title)
            ax.set_xticks(range(S), range(S), fontsize=10)
            ax.set_yticks(range(T), range(S - T, S), fontsize=10)
            ax.set_xlabel("key")
            ax.set_ylabel("query")
            style.bare(ax)
    return fig


def weights_map(weights: np.ndarray, queries: Sequence[str], keys: Sequence[str], title: str = "") -> Figure:
    """Attention weights (T, S) as a table of shaded cells with their values."""
    T, S = weights.shape
    with style.style():
        fig, ax = plt.subplots(figsize=(min(_WIDTH, 1.3 + 0.75 * S), 0.9 + 0.5 * T))
        for t, s in np.ndindex(T, S):
            share = float(weights[t, s])
            look = {"opacity": share, "linewidth": 0.6, "label": f"{share:.2f}", "size": 10}
            canvas.cell(ax, s - 0.5, t - 0.5, 1, 1, style.TEAL, **look)
        ax.set_xlim(-0.5, S - 0.5)
        ax.set_ylim(T - 0.5, -0.5)
        ax.set_xticks(range(S), keys, fontsize=10)
        ax.set_yticks(range(T), queries, fontsize=10)
        ax.xaxis.tick_top()
        style.bare(ax)
        if title:
            ax.set_title(title)
    return fig


def who_sees_whom(source: Sequence[str], target: Sequence[str]) -> Figure:
    """The masks of the three families as grids: a filled cell says that the query may look at the key.

    source: the words that are read; target: the words that the decoder of an encoder-decoder has written so far.
    """
    S, T = len(source), len(target)
    with style.style():
        fig = plt.figure(figsize=(4.9, 5.5))
        grid = fig.add_gridspec(2, 2, height_ratios=(S, T))
        for place, title, visible in (
            (grid[0, 0], "Encoder", np.ones((S, S), bool)),
            (grid[0, 1], "Decoder", np.tri(S, dtype=bool)),
        ):
            ax = fig.add_subplot(place)
            _cells(ax, visible, style.BLUE)
            at = np.arange(S) + 0.45
            ax.set(xlim=(-0.1, at[-1] + 0.55), ylim=(S, -0.1), aspect="equal")
            ax.set_xticks(at, source, rotation=90, fontsize=10)
            _queries(ax, source, title)
        ax = fig.add_subplot(grid[1, :])
        _memory_and_target(ax, source, target)
        _queries(ax, target, "Encoder-decoder: the decoder")
    return fig


def _memory_and_target(ax, source, target):
    """The keys of the memory, which every query sees, then those of the target, a little apart."""
    S, T = len(source), len(target)
    _cells(ax, np.ones((T, S), bool), style.GOLD)
    _cells(ax, np.tri(T, dtype=bool), style.BLUE, left=S + 0.5)
    at = np.arange(S + T) + 0.45
    at[S:] += 0.5
    canvas.text(ax, S / 2, T + 2.55, "keys from the memory")
    canvas.text(ax, S + 0.5 + T / 2, T + 2.55, "keys of the target")
    ax.set(xlim=(-0.1, at[-1] + 0.55), ylim=(T + 2.9, -0.1), aspect="equal")
    ax.set_xticks([])
    for x, word in zip(at, [*source, *target], strict=True):
        canvas.text(ax, x, T + 0.1, word, rotation=90, va="top")


def _cells(ax, visible, colour, left=0.0):
    for t, s in np.ndindex(visible.shape):
        face = colour if visible[t, s] else None
        canvas.cell(ax, left + s, t, 0.9, 0.9, face, opacity=0.75, linewidth=0.7)


def _queries(ax, words, title):
    ax.set_title(title)
    ax.set_yticks(np.arange(len(words)) + 0.45, words, fontsize=10)
    style.bare(ax)
