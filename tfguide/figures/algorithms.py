"""The figures of chapter 3: the algorithms as procedures on matrices, groups of heads, costs by length.

A rectangle is a matrix, drawn to scale: its height is the number of rows, its width the number of columns. Blue is an
activation, gold a weight, red an intermediate result, green the result. The figures are narrow, so that
their text can be read on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures.board import Board
from tfguide.figures.canvas import cell
from tfguide.figures.style import BLUE, DASHES, GOLD, MAUVE, RED, TEAL, ink, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML

_WIDTH = 4.8  # inches


def attention_shapes(n_queries: int = 4, n_keys: int = 6, d_model: int = 8, d_head: int = 3) -> Figure:
    """The steps of attention in one head, every matrix drawn to scale."""
    T, S, D, d = n_queries, n_keys, d_model, d_head
    with style():
        board = Board(_WIDTH, columns=max(D + 2 * d, 2 * S + d), gaps=2)
        board.title("1  Project", "to queries; keys and values likewise, with S rows")
        board.product([("X", T, D, "T", "D", BLUE), ("W_q", D, d, "D", "d", GOLD)], ("Q", T, d, "T", "d", BLUE))
        board.title("2  Score", "each query against each key, times 1/√d")
        board.product([("Q", T, d, "T", "d", BLUE), ("Kᵀ", d, S, "d", "S", BLUE)], ("Z", T, S, "T", "S", RED))
        board.title("3, 4  Mask, then softmax", "each row sums to 1")
        board.product([("Z", T, S, "T", "S", RED)], ("A", T, S, "T", "S", RED), sign="→")
        board.title("5  Weigh the values", "the rows of V, never those of X")
        board.product([("A", T, S, "T", "S", RED), ("V", S, d, "S", "d", BLUE)], ("C", T, d, "T", "d", TEAL))
        return board.figure()


def heads_shapes(n_queries: int = 4, n_keys: int = 6, n_heads: int = 3, d_head: int = 3) -> Figure:
    """Multi-head attention: queries cut into heads, attention in each, outputs concatenated and projected."""
    T, S, H, d = n_queries, n_keys, n_heads, d_head
    D = H * d
    colours = [BLUE, MAUVE, TEAL, RED, GOLD][:H]
    with style():
        board = Board(_WIDTH, columns=3 * D, gaps=2)
        board.title("1, 2  Project once, cut into heads", "head h owns d columns of Q, K and V")
        board.product(
            [("X", T, D, "T", "D", ink()), ("W_q", D, D, "D", "H d", GOLD)],
            ("", T, D, "T", "H d", colours),
        )
        board.title("3  Attend in each head", "H matrices of weights A, H outputs C")
        board.row([(f"A_{h + 1}", T, S, "T", "S", colours[h]) for h in range(H)])
        board.row([(f"C_{h + 1}", T, d, "T", "d", colours[h]) for h in range(H)], stretch=S - d)
        board.title("4, 5  Concatenate the outputs, project once", "")
        board.product(
            [("", T, D, "T", "H d", colours), ("W_o", D, D, "H d", "D", GOLD)],
            ("Y", T, D, "T", "D", ink()),
        )
        return board.figure()


def head_groups(n_heads: int = 8, kv_heads: Sequence[int] = (8, 2, 1)) -> Figure:
    """Which key/value head each query head reads: multi-head, grouped-query, multi-query."""
    names = {n_heads: "multi-head", 1: "multi-query"}
    with style():
        fig, axes = plt.subplots(len(kv_heads), 1, figsize=size(0.36 * len(kv_heads), _WIDTH))
        for ax, K in zip(np.atleast_1d(axes), kv_heads, strict=True):
            group = n_heads // K
            for h in range(n_heads):
                x = (h // group + 0.5) * group - 0.5
                ax.plot([h, x], [1, 0], color=ink(), linewidth=0.8, linestyle="-", zorder=0)
                cell(ax, h - 0.36, 1, 0.72, 0.44, BLUE)
            for k in range(K):
                x = (k + 0.5) * group - 0.5
                cell(ax, x - 0.36, -0.44, 0.72, 0.44, GOLD)
            ax.text(-0.75, 1.22, "queries", ha="right", va="center", fontsize=10)
            ax.text(-0.75, -0.22, "K, V", ha="right", va="center", fontsize=10)
            ax.set_title(f"{names.get(K, 'grouped-query')}: H = {n_heads}, K = {K}", fontsize=11)
            ax.set_xlim(-2.5, n_heads - 0.5)
            ax.set_ylim(-0.5, 1.5)
            ax.axis("off")
        return fig


def feed_forward_shapes(d_model: int = 3, n_positions: int = 4) -> Figure:
    """The feed-forward network, plain with F = 4 D and gated with two thirds of that, every matrix drawn to scale."""
    D, T = d_model, n_positions
    with style():
        board = Board(_WIDTH, columns=D + 16 * D / 3, gaps=2)
        for title, F, names in (("Plain", 4 * D, ["W_1", "W_2"]), ("Gated", 8 * D / 3, ["W_g", "W_u", "W_d"])):
            n = len(names)
            board.title(f"{title}: F = {F / D:.3g} D", f"{n} matrices, {n} D F = {n * F / D:.3g} D² weights")
            widen = [(name, D, F, "D", "F", GOLD) for name in names[:-1]]
            board.row([("X", T, D, "T", "D", BLUE), *widen], signs="·,")
            board.row([("hidden", T, F, "T", "F", RED), (names[-1], F, D, "F", "D", GOLD)], signs="·")
        return board.figure()


def steps_table(steps: Sequence[tuple[str, float, float, float]]) -> HTML:
    """The steps of a layer, (name, FLOPs, bytes read, bytes written) each: shares first, then absolute numbers."""
    flops, read, written = (sum(step[i] for step in steps) for i in (1, 2, 3))
    rows = [
        (
            name, f"{f / flops:.1%}", f"{(r + w) / (read + written):.1%}", f"{f / (r + w):,.1f}",
            f"{f / 1e6:,.1f}", f"{(r + w) / 1e6:,.2f}",
        )
        for name, f, r, w in [*steps, ("all", flops, read, written)]
    ]  # fmt: skip
    head = ("step", "of all FLOPs", "of all bytes", "FLOPs per byte", "MFLOPs", "MB")
    return table(head, rows, numbers=True)


def cost_by_length(
    lengths: Sequence[int],
    costs: Mapping[str, Sequence[float]],
    ylabel: str,
    crossings: Mapping[int, float] | None = None,
) -> Figure:
    """Costs against the number of positions, both axes logarithmic.

    costs: label to one value for each length; crossings: lengths to mark, with the cost at which two lines meet.
    """
    with style():
        fig, ax = plt.subplots(figsize=size(0.95, _WIDTH))
        for (label, values), dash in zip(costs.items(), DASHES, strict=False):
            ax.plot(lengths, values, label=label, marker="o" if len(lengths) < 12 else None, ms=4, linestyle=dash)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        for length, cost in (crossings or {}).items():
            ax.plot([length], [cost], marker="o", markersize=6, color=ink(), linestyle="none", zorder=5)
            ax.annotate(
                f"T = {length:,}",
                (length, cost),
                xytext=(8, -14),
                textcoords="offset points",
                fontsize=10,
            )
        ticks = list(lengths) if len(lengths) < 8 else [2**i for i in range(8, 18, 2)]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("positions T")
        ax.set_ylabel(ylabel)
        ax.legend(fontsize=10, loc="upper left")
        return fig
