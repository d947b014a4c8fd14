"""Attention maps as heat maps and as lines between words, and what whole sets of heads look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches. Narrower than the page: on a telephone the figure shrinks to the screen, and its labels must still be read.
_WIDTH = 5.0


def heat_maps(
    maps: Sequence[tuple[str, np.ndarray, Sequence[str]]],
    columns: int = 2,
    *,
    signed: bool = False,
    label: str = "attention weight",
) -> Figure:
    """Square maps side by side on one colour scale, queries in rows and keys in columns.

    maps: for each map its title, its values (T, T) and the T tokens. `signed` centres the colours on zero, for scores;
    without it they run from 0 to 1, for weights. `label` stands at the colour bar.
    """
    rows = -(-len(maps) // columns)
    limit = max(float(np.abs(values).max()) for _, values, _ in maps) if signed else 1.0
    colours = dict(cmap=style.DIVERGING, vmin=-limit, vmax=limit) if signed else dict(vmin=0.0, vmax=1.0)
    with style.style():
        width = _WIDTH if columns > 1 else 0.72 * _WIDTH
        size = (width, rows * width / columns * 1.08 + 0.45)
        # "compressed" is the layout for axes that stay square.
        fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="compressed")
        for ax in axes.flat[len(maps) :]:
            ax.set_visible(False)
        for ax, (title, values, tokens) in zip(axes.flat, maps, strict=False):
            image = style.heat_map(ax, values, **colours)
            ax.set_title(title, fontsize=10)
            ax.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=10)
            ax.set_yticks(range(len(tokens)), tokens, fontsize=10)
            ax.set_aspect("equal")
        bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return fig


def lines(weights: np.ndarray, tokens: Sequence[str], query: int | None = None) -> Figure:
    """One attention map as lines: from each token (left) to what it looks at (right), as wide as the weight.

    weights: (T, T); tokens: T words; query: the row to write the weights of, drawn in a colour of its own.
    """
    T = len(tokens)
    with style.style():
        fig, ax = plt.subplots(figsize=(_WIDTH, 0.36 * T + 0.7))
        ax.set_xlim(0, 1)
        ax.set_ylim(T - 0.4, -1.0)
        ax.axis("off")
        ax.text(0.26, -0.8, "query", ha="right", fontweight="bold")
        ax.text(0.74, -0.8, "key", ha="left", fontweight="bold")
        for t in range(T):
            chosen = t == query
            ax.text(0.26, t, tokens[t], ha="right", va="center", fontsize=11, fontweight="bold" if chosen else None)
            ax.text(0.74, t, tokens[t], ha="left", va="center", fontsize=11)
            for s in range(T):
                if weights[t, s] >= 0.02:
                    colour = style.RED if chosen else style.BLUE
                    alpha = 0.95 if chosen else 0.5
                    ends = dict(color=colour, alpha=alpha, linewidth=6 * weights[t, s], linestyle="-")
                    ax.plot([0.28, 0.72], [t, s], solid_capstyle="butt", zorder=3 if chosen else 2, **ends)
        if query is not None:
            for s in range(T):
                ax.text(0.95, s, f"{weights[query, s]:.2f}", ha="right", va="center", fontsize=10, color=style.RED)
    return fig


def head_overview(shares: Mapping[str, np.ndarray]) -> Figure:
    """The share of each head's weight that goes to one kind of place: (L, H) numbers by title."""
    with style.style():
        fig, axes = plt.subplots(len(shares), 1, figsize=(_WIDTH, 1.95 * len(shares) + 0.8), squeeze=False)
        for ax, (title, values) in zip(axes.flat, shares.items(), strict=True):
            image = style.heat_map(ax, values, vmin=0.0, vmax=1.0)
            ax.set_title(title, fontsize=10)
            ax.set_xticks(range(values.shape[1]), range(values.shape[1]), fontsize=10)
            ax.set_yticks(range(values.shape[0]), range(values.shape[0]), fontsize=10)
            ax.set_ylabel("block")
        axes.flat[-1].set_xlabel("head")
        bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("mean share of a word's attention weight")
        bar.outline.set_visible(False)
    return fig


def depth_curves(curves: Mapping[str, Sequence[float]], label: str) -> Figure:
    """A number after the embedding and after each block, for variants of a model: L + 1 numbers by name."""
    with style.style():
        fig, ax = plt.subplots(figsize=(_WIDTH, 3.2))
        for name, values in curves.items():
            ax.plot(range(len(values)), values, marker="o", markersize=5, label=name)
        ax.set_xticks(range(len(values)), ["embedding", *(f"{i}" for i in range(len(values) - 1))])
        ax.set_xlabel("after block")
        ax.set_ylabel(label)
        ax.legend(fontsize=10)
    return fig


def similarity(values: np.ndarray, labels: Sequence[str]) -> Figure:
    """A table of cosine similarities (N, N) as a heat map with its numbers; `labels` name the rows."""
    N = len(labels)
    with style.style():
        fig, ax = plt.subplots(figsize=(_WIDTH, 0.42 * N + 0.9))
        style.heat_map(ax, values, cmap=style.DIVERGING, vmin=-1.0, vmax=1.0)
        ax.set_xticks(range(N), [str(i + 1) for i in range(N)], fontsize=10)
        ax.xaxis.tick_top()
        ax.set_yticks(range(N), [f"{i + 1}  {text}" for i, text in enumerate(labels)], fontsize=10)
        for i in range(N):
            for j in range(N):
                # The cells have their own colour on any page, so their numbers have one too.
                dark = abs(values[i, j]) > 0.6
                colour = "#ffffff" if dark else "#1a1a1a"
                ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=9, color=colour)
    return fig
