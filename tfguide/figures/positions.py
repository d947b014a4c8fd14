"""Figures of the position encodings: added vectors, rotated heads, and biases of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from tfguide.figures import canvas, style
from tfguide.frequencies import alibi_slopes, relative_bucket_table, rotary_frequencies, sinusoidal_frequencies
from tfguide.reference import alibi_bias, sinusoidal_positions


def sinusoidal(n_positions: int = 64, d_model: int = 64) -> Figure:
    """The sinusoidal encodings (T, D) as a heat map, and their dot products (T, T)."""
    encoding = sinusoidal_positions(np.arange(n_positions)[None], d_model)[0]
    with style.style():
        fig, (top, bottom) = plt.subplots(2, 1, figsize=(style.WIDTH, 7.4), height_ratios=(4, 5))
        image = style.heat_map(top, encoding, cmap=style.DIVERGING, vmin=-1, vmax=1)
        fig.colorbar(image, ax=top, ticks=[-1, 0, 1])
        top.set_title("The encodings")
        top.set_xlabel("feature")
        top.set_ylabel("position")
        image = style.heat_map(bottom, encoding @ encoding.T)
        bottom.set_aspect("equal")
        fig.colorbar(image, ax=bottom)
        bottom.set_title("Their dot products")
        bottom.set_xlabel("position")
        bottom.set_ylabel("position")
    return fig


def clocks(positions: Sequence[int] = (3, 8), offset: int = 4, d_model: int = 12) -> Figure:
    """Each pair of features as the hand of a clock: the step from p to p + offset is one turn for every p."""
    frequencies = sinusoidal_frequencies(d_model)[:3]
    with style.style():
        fig, axes = plt.subplots(
            len(positions), len(frequencies), figsize=(style.WIDTH, 1.75 * len(positions) + 0.4), squeeze=False
        )
        for row, p in zip(axes, positions, strict=True):
            for ax, frequency in zip(row, frequencies, strict=True):
                _circle(ax)
                _hand(ax, p * frequency, style.BLUE, f"{p}")
                _hand(ax, (p + offset) * frequency, style.RED, f"{p + offset}")
                turn = np.linspace(p * frequency, (p + offset) * frequency, 100)
                ax.plot(0.45 * np.cos(turn), 0.45 * np.sin(turn), color=style.GOLD, linestyle="-", linewidth=1.6)
            row[0].set_ylabel(f"{p} to {p + offset}", fontsize=10)
        for ax, frequency in zip(axes[0], frequencies, strict=True):
            ax.set_title(f"{frequency:.3g} rad", fontsize=10, loc="center")
    return fig


def rope(query: np.ndarray, key: np.ndarray, places: Sequence[tuple[int, int]], frequency: float) -> Figure:
    """A query and a key of two features, turned for several pairs (query position, key position).

    The dot product is written below each pair: it depends on the distance alone.
    """
    with style.style():
        fig, axes = plt.subplots(1, len(places), figsize=(style.WIDTH, 2.6))
        reach = 1.25 * max(np.linalg.norm(query), np.linalg.norm(key))
        for ax, (p, r) in zip(axes, places, strict=True):
            turned = []
            for vector, position, colour, name in ((query, p, style.BLUE, "q"), (key, r, style.RED, "k")):
                angle = np.arctan2(vector[1], vector[0]) + position * frequency
                x, y = np.linalg.norm(vector) * np.cos(angle), np.linalg.norm(vector) * np.sin(angle)
                turned.append(np.array([x, y]))
                canvas.arrow(ax, (0, 0), (x, y), colour=colour, width=1.8)
                ax.text(1.16 * x, 1.16 * y, name, color=colour, ha="center", va="center", fontsize=11)
            ax.add_patch(Circle((0, 0), 0.04 * reach, facecolor=style.ink(), edgecolor="none"))
            _square(ax, reach)
            ax.set_title(f"q at {p}, k at {r}", fontsize=10, loc="center")
            ax.set_xlabel(f"q · k = {turned[0] @ turned[1]:.3f}")
    return fig


def llama3_wavelengths(d_head: int, theta: float, scaling) -> Figure:
    """The wavelength of each pair of features before and after Llama 3's scaling."""
    plain = 2 * np.pi / rotary_frequencies(d_head, theta)
    stretched = 2 * np.pi / rotary_frequencies(d_head, theta, scaling)
    old = scaling.original_max_positions
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 3.9))
        pairs = np.arange(d_head // 2)
        ax.plot(pairs, plain, color=style.BLUE, linestyle="-", label="as trained")
        ax.plot(pairs, stretched, color=style.RED, linestyle=(0, (5, 1.5)), label="stretched")
        for limit, text in (
            (old / scaling.high_freq_factor, f"{old // int(scaling.high_freq_factor)}: below, kept"),
            (old / scaling.low_freq_factor, f"{old // int(scaling.low_freq_factor)}: above, times {scaling.factor:g}"),
        ):
            ax.axhline(limit, color=style.ink(), linewidth=0.8, linestyle=":")
            ax.text(0, limit * 1.15, text, fontsize=9, va="bottom")
        ax.set_yscale("log")
        ax.set_xlabel("pair of features")
        ax.set_title("Wavelength, in positions")
        ax.legend(loc="lower right")
    return fig


def alibi(n_heads: int = 8, n_positions: int = 32) -> Figure:
    """The attention weights of the last position when all scores are equal: what each slope of ALiBi leaves."""
    places = np.arange(n_positions)[None]
    bias = alibi_bias(places[:, -1:], places, n_heads)[0, :, 0]  # (H, S)
    weights = np.exp(bias) / np.exp(bias).sum(axis=-1, keepdims=True)
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 3.4))
        distance = n_positions - 1 - np.arange(n_positions)
        for number, head in enumerate(range(0, n_heads, 2)):
            slope = alibi_slopes(n_heads)[head]
            ax.plot(
                distance,
                weights[head],
                color=style.PALETTE[number],
                linestyle=style.DASHES[number],
                label=f"head {head + 1}, slope 1/{1 / slope:g}",
            )
        ax.set_xlabel("distance of the key")
        ax.set_title("Weight of a key when all scores are equal")
        ax.legend()
    return fig


def t5_buckets(n_buckets: int = 32, max_distance: int = 128) -> Figure:
    """The bucket of each relative position (key minus query), in an encoder and in a decoder."""
    relative = np.arange(-max_distance, max_distance + 1)
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 3.4))
        for both, name, colour, dash in (
            (True, "encoder: both directions", style.BLUE, "-"),
            (False, "decoder: what came before", style.RED, (0, (5, 1.5))),
        ):
            buckets = relative_bucket_table(both, n_buckets, max_distance)
            ax.step(relative, buckets, where="mid", label=name, color=colour, linestyle=dash, linewidth=1.4)
        ax.set_xlabel("key position minus query position")
        ax.set_title("Bucket")
        ax.set_xticks([-128, -64, 0, 64, 128])
        ax.set_ylim(-1, n_buckets + 8)
        ax.legend(loc="upper right")
    return fig


def _circle(ax):
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=style.ink(), linewidth=0.8))
    _square(ax, 1.35)


def _square(ax, reach):
    """A square around the origin, without ticks and lines."""
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
    style.bare(ax)


def _hand(ax, angle, colour, label):
    x, y = np.cos(angle), np.sin(angle)
    ax.plot([0, x], [0, y], color=colour, linestyle="-")
    ax.text(1.2 * x, 1.2 * y, label, color=colour, ha="center", va="center", fontsize=10)
