"""The figures of chapter 3: the algorithms as procedures on matrices, masks, groups of heads, costs by length.

A rectangle is a matrix, drawn to scale: its height is the number of rows, its width the number of columns. Blue is an
activation, gold a weight, red what an algorithm makes on its way, green its result. The figures are narrow, so that
their text can be read on a phone.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tfguide.figures.style import BLUE, DASHES, GOLD, MAUVE, RED, TEAL, ink, size, style

_WIDTH = 4.8  # inches


def attention_shapes(n_queries: int = 4, n_keys: int = 6, d_model: int = 8, d_head: int = 3) -> Figure:
    """The steps of attention in one head, every matrix drawn to scale."""
    T, S, D, d = n_queries, n_keys, d_model, d_head
    with style():
        board = _Board(columns=max(D + 2 * d, 2 * S + d), gaps=2)
        board.title("1  Project", "to queries; keys and values alike, with S rows")
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
        board = _Board(columns=3 * D, gaps=2)
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
                ax.add_patch(_box(h - 0.36, 1, 0.72, 0.44, BLUE))
            for k in range(K):
                x = (k + 0.5) * group - 0.5
                ax.add_patch(_box(x - 0.36, -0.44, 0.72, 0.44, GOLD))
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
        board = _Board(columns=D + 16 * D / 3, gaps=2)
        for title, F, names in (("Plain", 4 * D, ["W_1", "W_2"]), ("Gated", 8 * D / 3, ["W_g", "W_u", "W_d"])):
            n = len(names)
            board.title(f"{title}: F = {F / D:.3g} D", f"{n} matrices, {n} D F = {n * F / D:.3g} D² weights")
            widen = [(name, D, F, "D", "F", GOLD) for name in names[:-1]]
            board.row([("X", T, D, "T", "D", BLUE), *widen], signs="·,")
            board.row([("bent", T, F, "T", "F", RED), (names[-1], F, D, "F", "D", GOLD)], signs="·")
        return board.figure()


def mask_grid(masks: Mapping[str, np.ndarray]) -> Figure:
    """Masks as grids, two in a row: a filled cell may be looked at.

    masks: title to boolean (T, S); the queries are the last T of the S positions.
    """
    rows = -(-len(masks) // 2)
    with style():
        fig, axes = plt.subplots(rows, 2, figsize=(_WIDTH, 2.55 * rows), squeeze=False)
        for ax in axes.flat[len(masks) :]:
            ax.axis("off")
        for ax, (title, visible) in zip(axes.flat, masks.items(), strict=False):
            T, S = visible.shape
            for t, s in np.ndindex(T, S):
                ax.add_patch(_box(s - 0.44, t - 0.44, 0.88, 0.88, TEAL if visible[t, s] else None))
            ax.set_xlim(-0.6, S - 0.4)
            ax.set_ylim(T - 0.4, -0.6)
            ax.set_aspect("equal")
            ax.set_title(title)
            ax.set_xticks(range(S), range(S), fontsize=10)
            ax.set_yticks(range(T), range(S - T, S), fontsize=10)
            ax.set_xlabel("key")
            ax.set_ylabel("query")
            _bare(ax)
        return fig


def weights_map(weights: np.ndarray, queries: Sequence[str], keys: Sequence[str], title: str = "") -> Figure:
    """Attention weights (T, S) as a table of shaded cells with their values."""
    T, S = weights.shape
    with style():
        fig, ax = plt.subplots(figsize=(min(_WIDTH, 1.3 + 0.75 * S), 0.9 + 0.5 * T))
        for t, s in np.ndindex(T, S):
            share = float(weights[t, s])
            ax.add_patch(Rectangle((s - 0.5, t - 0.5), 1, 1, facecolor=to_rgba(TEAL, share), edgecolor=ink(), lw=0.6))
            ax.text(s, t, f"{share:.2f}", ha="center", va="center", fontsize=10)
        ax.set_xlim(-0.5, S - 0.5)
        ax.set_ylim(T - 0.5, -0.5)
        ax.set_xticks(range(S), keys, fontsize=10)
        ax.set_yticks(range(T), queries, fontsize=10)
        ax.xaxis.tick_top()
        _bare(ax)
        if title:
            ax.set_title(title)
        return fig


def activation_curves(curves: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> Figure:
    """Activation functions of one variable, by name."""
    x = np.linspace(-4, 3, 281)
    with style():
        fig, ax = plt.subplots(figsize=size(0.72, _WIDTH))
        ax.axhline(0, color=ink(), linewidth=0.6, linestyle="-")
        ax.axvline(0, color=ink(), linewidth=0.6, linestyle="-")
        for name, function in curves.items():
            ax.plot(x, function(x), label=name)
        ax.set_xlabel("input")
        ax.set_ylabel("output")
        ax.legend(fontsize=10)
        return fig


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


def _bare(ax: Axes) -> None:
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


class _Board:
    """Rows of matrices under titles, laid out downwards in units of one matrix element."""

    def __init__(self, columns: float, gaps: int):
        """columns: the elements that the widest row has side by side; gaps: the spaces between its matrices."""
        self.unit = columns / (_WIDTH - 0.27 - 0.46 * gaps)  # matrix elements to the inch
        self.width = self.unit * _WIDTH
        self.items: list[Callable[[Axes], None]] = []
        self.y = 0.0  # grows downwards

    def title(self, text: str, detail: str) -> None:
        y = self.y + 0.22 * self.unit
        self.items.append(lambda ax: ax.text(0, y, text, ha="left", va="center", fontsize=11, fontweight="bold"))
        if detail:
            below = y + 0.2 * self.unit
            self.items.append(lambda ax: ax.text(0, below, detail, ha="left", va="center", fontsize=10))
        self.y += (0.52 if detail else 0.34) * self.unit

    def product(self, factors, result, sign: str = "=") -> None:
        """Two factors and what they give, or a matrix and what becomes of it."""
        self.row([*factors, result], signs="·" * (len(factors) - 1) + sign)

    def row(self, matrices, signs: str = "", stretch: float = 0.0) -> None:
        """Matrices side by side, each a name, rows, columns, both letters and a colour; `stretch` widens the gaps."""
        unit = self.unit
        top = self.y + 0.22 * unit  # room for the letters above
        height = max(matrix[1] for matrix in matrices)
        x = 0.22 * unit
        for i, (name, rows, columns, row_letter, column_letter, colour) in enumerate(matrices):
            if i and signs:
                self._text(x - 0.31 * unit, top + height / 2, signs[i - 1], 13)
            y = top + (height - rows) / 2
            self._matrix(x, y, rows, columns, colour)
            self._text(x + columns / 2, y + rows / 2, _subscript(name), 11)
            self._text(x + columns / 2, y - 0.1 * unit, column_letter, 10)
            self._text(x - 0.11 * unit, y + rows / 2, row_letter, 10, rotation=90 if len(row_letter) > 1 else 0)
            x += columns + 0.46 * unit + stretch
        self.y = top + height + 0.16 * unit

    def figure(self) -> Figure:
        height = self.y / self.unit
        fig, ax = plt.subplots(figsize=(_WIDTH, height))
        ax.set_xlim(0, self.width)
        ax.set_ylim(self.y, 0)
        ax.set_aspect("equal")
        ax.axis("off")
        for draw in self.items:
            draw(ax)
        return fig

    def _text(self, x, y, text, fontsize, rotation=0):
        look = dict(ha="center", va="center", fontsize=fontsize, rotation=rotation)
        self.items.append(lambda ax: ax.text(x, y, text, **look))

    def _matrix(self, x, y, rows, columns, colour):
        colours = colour if isinstance(colour, list) else [colour]
        width = columns / len(colours)
        for i, part in enumerate(colours):
            self.items.append(lambda ax, i=i, part=part: ax.add_patch(_box(x + i * width, y, width, rows, part)))


def _box(x, y, width, height, colour):
    face = "none" if colour is None else to_rgba(colour, 0.1 if colour == ink() else 0.38)
    return Rectangle((x, y), width, height, facecolor=face, edgecolor=ink(), linewidth=0.8)


def _subscript(name: str) -> str:
    """A name such as W_q as mathematics with an upright subscript."""
    if "_" not in name:
        return name
    base, below = name.split("_")
    return rf"${base}_{{\mathrm{{{below}}}}}$"
