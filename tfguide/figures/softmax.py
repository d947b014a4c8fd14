"""Figures of the softmax: how it sharpens with its input, and what the scale 1 / sqrt(d) does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures import style


def sharpening(weights: Mapping[str, np.ndarray]) -> Figure:
    """The same scores under several factors: one row of bars (n,) for each title."""
    with style.style():
        fig, axes = plt.subplots(
            len(weights), 1, figsize=(style.WIDTH, 1.25 * len(weights) + 0.6), sharex=True, sharey=True
        )
        for ax, (title, p), colour in zip(axes, weights.items(), style.PALETTE, strict=False):
            ax.bar(np.arange(len(p)), p, color=colour, width=0.8)
            ax.set_title(title, fontsize=10)
            ax.set_ylim(0, 1.05)
            ax.set_yticks([0, 0.5, 1])
        axes[-1].set_xlabel("key, in order of its score")
        fig.supylabel("weight", fontsize=10)
    return fig


def scaling(
    sizes: Sequence[int],
    entropy: Mapping[str, Sequence[float]],
    gradient: Mapping[str, np.ndarray],
    n_keys: int,
) -> Figure:
    """Entropy of the attention weights and size of the softmax's Jacobian against d_head.

    entropy: by name, the mean in nats for each size. gradient: by name, (3, sizes), the quartiles of the norm.
    """
    with style.style():
        fig, (top, bottom) = plt.subplots(2, 1, figsize=(style.WIDTH, 5.6), sharex=True)
        colours = (style.BLUE, style.RED)
        for (name, values), colour, dash in zip(entropy.items(), colours, style.DASHES, strict=False):
            top.plot(sizes, values, color=colour, linestyle=dash, marker="o", markersize=4)
            top.annotate(
                name, (sizes[-1], values[-1]), xytext=(0, 8), textcoords="offset points", ha="right", color=colour
            )
        top.axhline(np.log(n_keys), color=style.ink(), linewidth=0.8, linestyle=":")
        top.annotate(
            f"uniform: log {n_keys}", (sizes[0], np.log(n_keys)), xytext=(0, 4), textcoords="offset points", fontsize=9
        )
        top.set_ylim(0, np.log(n_keys) + 0.75)
        top.set_title("Entropy of the weights, in nats")
        for (name, (low, middle, high)), colour, dash in zip(gradient.items(), colours, style.DASHES, strict=False):
            bottom.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
            bottom.plot(sizes, middle, color=colour, linestyle=dash, marker="o", markersize=4, label=name)
        bottom.set_xscale("log", base=2)
        bottom.set_yscale("log")
        bottom.set_xticks(sizes[::2], [str(d) for d in sizes[::2]])
        bottom.minorticks_off()
        bottom.set_title("Size of the softmax's Jacobian: median, quartiles")
        bottom.set_xlabel("d, the size of a head")
        bottom.legend(loc="lower left")
    return fig
