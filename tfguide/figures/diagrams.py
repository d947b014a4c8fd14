"""Block diagrams of the model families, and which position may look at which.

Data flow downwards. Blue is attention, gold the feed-forward network, mauve a norm, teal an embedding or a head; the
red line is the residual, which carries a sublayer's input past it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

from tfguide.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ATTENTION, FEED_FORWARD, NORM, TABLE, RESIDUAL = style.BLUE, style.GOLD, style.MAUVE, style.TEAL, style.RED


def encoder_family() -> Figure:
    """BERT: every position sees every other, and each norm stands behind the sum."""
    with style.style():
        ax = _canvas(3.9, 6.35)
        flow = _Flow(ax, 0.75, 3.25, 0.06)
        flow.text("tokens  (T,)")
        flow.arrow()
        flow.box("Embeddings", TABLE, "token + position + type")
        flow.arrow()
        flow.box("Norm", NORM)
        top = flow.y
        flow.arrow(0.55)
        flow.branch(0.2)
        flow.box("Self-attention", ATTENTION, "every position sees all")
        flow.merge()
        flow.arrow(0.2)
        flow.box("Norm", NORM)
        flow.arrow(0.42)
        flow.branch(0.22)
        flow.box("Feed-forward", FEED_FORWARD, "GELU")
        flow.merge()
        flow.arrow(0.2)
        flow.box("Norm", NORM)
        flow.frame(top + 0.12, "L blocks")
        flow.arrow(0.34)
        flow.text("hidden states  (T, D)")
    return ax.figure


def decoder_family() -> Figure:
    """GPT-2: a position sees itself and what came before, each norm stands before its sublayer, the head is tied."""
    with style.style():
        ax = _canvas(3.9, 7.15)
        flow = _Flow(ax, 0.75, 3.25, 0.06)
        flow.text("tokens  (T,)")
        flow.arrow()
        table = flow.box("Embeddings", TABLE, "token + position")
        top = flow.y
        flow.arrow(0.55)
        flow.branch(0.2)
        flow.box("Norm", NORM)
        flow.arrow(0.22)
        flow.box("Causal self-attention", ATTENTION, "sees itself and the past")
        flow.merge()
        flow.arrow(0.0)
        flow.branch(0.12, lead=0.3)
        flow.box("Norm", NORM)
        flow.arrow(0.22)
        flow.box("Feed-forward", FEED_FORWARD, "GELU")
        flow.merge(tail=0.12)
        flow.frame(top + 0.12, "L blocks")
        flow.arrow(0.32)
        flow.box("Final norm", NORM)
        flow.arrow()
        head = flow.box("Head", TABLE, "the embedding, transposed")
        flow.arrow()
        flow.text("logits  (T, V)")
        _tie(ax, 0.32, flow.left, table, head)
    return ax.figure


def encoder_decoder_family() -> Figure:
    """T5: an encoder reads the source once, and each decoder block looks at what it made."""
    with style.style():
        ax = _canvas(5.3, 8.9)
        encoder = _Flow(ax, 0.22, 2.12, 0.06, size=10.5)
        encoder.text("source  (S,)")
        encoder.arrow()
        encoder.box("Embeddings", TABLE, "token")
        top = encoder.y
        encoder.arrow(0.55)
        encoder.branch(0.2)
        encoder.box("Norm", NORM)
        encoder.arrow(0.22)
        encoder.box("Self-attention", ATTENTION, "sees the whole source")
        encoder.merge()
        encoder.arrow(0.0)
        encoder.branch(0.12, lead=0.3)
        encoder.box("Norm", NORM)
        encoder.arrow(0.22)
        encoder.box("Feed-forward", FEED_FORWARD, "ReLU")
        encoder.merge(tail=0.12)
        encoder.frame(top + 0.12, "L blocks")
        encoder.arrow(0.32)
        encoder.box("Final norm", NORM)

        decoder = _Flow(ax, 2.92, 4.82, 0.06, size=10.5)
        decoder.text("target so far  (T,)")
        decoder.arrow()
        decoder.box("Embeddings", TABLE, "the same table")
        top = decoder.y
        decoder.arrow(0.55)
        decoder.branch(0.2)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        decoder.box("Causal self-attention", ATTENTION, "sees the target so far")
        decoder.merge()
        decoder.arrow(0.0)
        decoder.branch(0.12, lead=0.3)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        cross = decoder.box("Cross-attention", ATTENTION, "sees the whole source")
        decoder.merge()
        decoder.arrow(0.0)
        decoder.branch(0.12, lead=0.3)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        decoder.box("Feed-forward", FEED_FORWARD, "ReLU")
        decoder.merge(tail=0.12)
        decoder.frame(top + 0.12, "L blocks")
        decoder.arrow(0.32)
        decoder.box("Final norm", NORM)
        decoder.arrow()
        decoder.box("Head", TABLE, "the table, transposed")
        decoder.arrow()
        decoder.text("logits  (T, V)")

        # The memory leaves the encoder at its end and enters every decoder block.
        end, side = encoder.y + 0.34, 2.52
        line = dict(color=ATTENTION, linewidth=2.0, linestyle="-", solid_joinstyle="round")
        ax.plot([encoder.middle, encoder.middle, side, side], [encoder.y, end, end, cross], **line)
        _head(ax, (side, cross), (decoder.left, cross), ATTENTION, 2.0)
        ax.text(encoder.middle, end + 0.2, "memory  (S, D): keys and", ha="center", va="center", fontsize=10)
        ax.text(encoder.middle, end + 0.39, "values for every block", ha="center", va="center", fontsize=10)
    return ax.figure


def block_variants() -> Figure:
    """One block of Llama and one of PaLM side by side: sublayers in sequence and in parallel."""
    with style.style():
        ax = _canvas(5.3, 4.6)
        llama = _Flow(ax, 0.22, 2.22, 0.06, size=10.5)
        llama.text("Llama: in sequence", bold=True)
        llama.text("x  (T, D)")
        llama.arrow(0.0)
        llama.branch(0.16, lead=0.2)
        llama.box("RMS norm", NORM)
        llama.arrow(0.22)
        llama.box("Causal attention", ATTENTION, "rotary, grouped heads")
        llama.merge()
        llama.arrow(0.0)
        llama.branch(0.12, lead=0.3)
        llama.box("RMS norm", NORM)
        llama.arrow(0.22)
        llama.box("Feed-forward", FEED_FORWARD, "SwiGLU")
        llama.merge(tail=0.25)

        palm = _Flow(ax, 2.85, 4.85, 0.06, size=10.5)
        palm.text("PaLM: in parallel", bold=True)
        palm.text("x  (T, D)")
        palm.arrow(0.0)
        palm.branch(0.16, lead=0.2)
        palm.box("Layer norm", NORM, "no bias")
        palm.fork(
            ("Causal\nattention", ATTENTION, "rotary,\n1 K/V head"),
            ("Feed-\nforward", FEED_FORWARD, "SwiGLU"),
            1.15,
        )
        palm.merge(tail=0.25)
    return ax.figure


def who_sees_whom(source: Sequence[str], target: Sequence[str]) -> Figure:
    """The masks of the three families as grids: a filled cell says that the query may look at the key.

    source: the words that are read; target: the words that the decoder of an encoder-decoder has written so far.
    """
    S, T = len(source), len(target)
    causal = np.tri(T, dtype=bool)
    panels = [
        ("Encoder", np.ones((S, S), bool), source, source),
        ("Decoder", np.tri(S, dtype=bool), source, source),
        ("Encoder-decoder: the decoder", np.concatenate([np.ones((T, S), bool), causal], axis=1), target, None),
    ]
    with style.style():
        fig = plt.figure(figsize=(4.9, 5.5))
        grid = fig.add_gridspec(2, 2, height_ratios=(S, T))
        places = (grid[0, 0], grid[0, 1], grid[1, :])
        for place, (title, visible, queries, keys) in zip(places, panels, strict=True):
            ax = fig.add_subplot(place)
            labels = [*source, *target] if keys is None else keys
            for t, s in np.ndindex(visible.shape):
                cross = keys is None and s < S
                face = to_rgba(style.GOLD if cross else style.BLUE, 0.75) if visible[t, s] else "none"
                shift = 0.5 if keys is None and s >= S else 0.0
                ax.add_patch(Rectangle((s + shift, t), 0.9, 0.9, facecolor=face, edgecolor=style.ink(), lw=0.7))
            at = np.arange(len(labels)) + 0.45
            if keys is None:
                at[S:] += 0.5
                ax.text(S / 2, T + 2.55, "keys from the memory", ha="center", va="center", fontsize=10)
                ax.text(S + 0.5 + T / 2, T + 2.55, "keys of the target", ha="center", va="center", fontsize=10)
            ax.set(xlim=(-0.1, at[-1] + 0.55), ylim=(len(queries) + (2.9 if keys is None else 0), -0.1), aspect="equal")
            ax.set_title(title)
            ax.set_yticks(np.arange(len(queries)) + 0.45, queries, fontsize=10)
            if keys is None:
                ax.set_xticks([])
                for x, word in zip(at, labels, strict=True):
                    ax.text(x, T + 0.1, word, rotation=90, ha="center", va="top", fontsize=10)
            else:
                ax.set_xticks(at, labels, rotation=90, fontsize=10)
            ax.tick_params(length=0)
            for spine in ax.spines.values():
                spine.set_visible(False)
    return fig


class _Flow:
    """A column of boxes, drawn downwards in inches; each call starts where the last one ended."""

    def __init__(self, ax: Axes, left: float, right: float, top: float, size: float = 11.0):
        self.ax, self.left, self.right, self.y, self.size = ax, left, right, top, size
        self.middle = (left + right) / 2
        self.side = right + 0.22  # where the residual runs
        self._from = 0.0  # where the open residual left the column

    def text(self, words: str, bold: bool = False) -> None:
        weight = "bold" if bold else None
        self.y += 0.14
        self.ax.text(self.middle, self.y, words, ha="center", va="center", fontsize=self.size, fontweight=weight)
        self.y += 0.3 if bold else 0.16

    def arrow(self, length: float = 0.28) -> None:
        if length:
            _head(self.ax, (self.middle, self.y), (self.middle, self.y + length), style.ink(), 1.4)
            self.y += length

    def box(self, title: str, colour: str, below: str = "") -> float:
        """A box with a title and perhaps a line below it; the height of its middle."""
        height = 0.52 if below else 0.32
        _box(self.ax, self.left, self.y, self.right - self.left, height, title, colour, below, self.size)
        self.y += height
        return self.y - height / 2

    def branch(self, back: float, lead: float = 0.0) -> None:
        """Start a residual, `back` above the end of the last arrow, after drawing an arrow of length `lead`."""
        self.arrow(lead)
        self._from = self.y - back

    def merge(self, tail: float = 0.0) -> None:
        """Add the residual that is open to the flow: a circle with a plus."""
        radius = 0.105
        _head(self.ax, (self.middle, self.y), (self.middle, self.y + 0.2), style.ink(), 1.4)
        centre = self.y + 0.2 + radius
        self.ax.add_patch(Circle((self.middle, centre), radius, facecolor="none", edgecolor=RESIDUAL, linewidth=1.6))
        for dx, dy in ((0.6, 0), (0, 0.6)):
            x, y = dx * radius, dy * radius
            self.ax.plot(
                [self.middle - x, self.middle + x], [centre - y, centre + y], color=RESIDUAL, lw=1.6, linestyle="-"
            )
        line = dict(color=RESIDUAL, linewidth=1.6, linestyle="-", solid_joinstyle="round")
        self.ax.plot([self.middle, self.side, self.side], [self._from, self._from, centre], **line)
        _head(self.ax, (self.side, centre), (self.middle + radius, centre), RESIDUAL, 1.6)
        self.y = centre + radius
        if tail:
            self.ax.plot([self.middle] * 2, [self.y, self.y + tail], color=style.ink(), linewidth=1.4, linestyle="-")
            self.y += tail

    def fork(self, first, second, height: float) -> None:
        """Two boxes side by side that read the same input and are added; each a title, a colour and a line below."""
        ax, gap, drop = self.ax, 0.16, 0.3
        width = (self.right - self.left - gap) / 2
        ink = dict(color=style.ink(), linewidth=1.4, linestyle="-", solid_joinstyle="round")
        centres = (self.left + width / 2, self.right - width / 2)
        ax.plot([self.middle, self.middle], [self.y, self.y + drop / 2], **ink)
        ax.plot(centres, [self.y + drop / 2] * 2, **ink)
        top = self.y + drop
        for x, (title, colour, below) in zip(centres, (first, second), strict=True):
            _head(ax, (x, self.y + drop / 2), (x, top), style.ink(), 1.4)
            _box(ax, x - width / 2, top, width, height, title, colour, below, self.size, gap=0.27)
            ax.plot([x, x], [top + height, top + height + drop / 2], **ink)
        ax.plot(centres, [top + height + drop / 2] * 2, **ink)
        self.y = top + height + drop / 2

    def frame(self, top: float, label: str) -> None:
        """A frame around what was drawn since `top`, residuals included."""
        left, right = self.left - 0.16, self.side + 0.1
        bottom = self.y + 0.12
        box = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle="round,pad=0,rounding_size=0.12")
        box.set(facecolor="none", edgecolor=style.ink(), linewidth=1.0, alpha=0.7)
        self.ax.add_patch(box)
        self.ax.text(left + 0.1, top + 0.15, label, ha="left", va="center", fontsize=10)


def _canvas(width: float, height: float) -> Axes:
    """Axes that fill a figure, measured in inches from its top left corner."""
    fig = plt.figure(figsize=(width, height), layout="none")
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.axis("off")
    return ax


def _box(ax, x, y, width, height, title, colour, below, size, gap=0.115):
    box = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.07")
    box.set(facecolor=to_rgba(colour, 0.16), edgecolor=colour, linewidth=1.6)
    ax.add_patch(box)
    middle, centre = y + height / 2, x + width / 2
    place = dict(ha="center", va="center")
    ax.text(centre, middle - (gap if below else 0), title, fontsize=size, fontweight="bold", **place)
    if below:
        ax.text(centre, middle + gap, below, fontsize=10, **place)


def _head(ax, start, end, colour, width):
    """A straight arrow."""
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0, linewidth=width, color=colour
        )
    )


def _tie(ax, x, left, first, second):
    """A dashed line from one table to the other: one matrix, used twice."""
    line = dict(color=TABLE, linewidth=1.6, linestyle=(0, (4, 2)))
    ax.plot([left, x, x, left], [first, first, second, second], **line)
    ax.text(x - 0.1, (first + second) / 2, "one matrix", rotation=90, ha="right", va="center", fontsize=10)
