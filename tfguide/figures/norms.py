"""Figures of the norms: what they do to a vector, and how the gradient at the last layer depends on their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from tfguide.figures import canvas, style


def geometry(points: np.ndarray) -> Figure:
    """RMS norm and layer norm of vectors of two features (N, 2): an arrow from each vector to its norm's output."""
    rms = points / np.sqrt((points**2).mean(axis=1, keepdims=True))
    centred = points - points.mean(axis=1, keepdims=True)
    layer = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True))
    with style.style():
        fig, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.1), sharey=True)
        for ax, title, normed in ((axes[0], "RMS norm", rms), (axes[1], "Layer norm", layer)):
            ax.axhline(0, color=style.ink(), linewidth=0.5)
            ax.axvline(0, color=style.ink(), linewidth=0.5)
            ax.add_patch(Circle((0, 0), np.sqrt(2), fill=False, edgecolor=style.ink(), linewidth=0.8, linestyle=":"))
            for number, (start, end) in enumerate(zip(points, normed, strict=True)):
                colour = style.PALETTE[number % len(style.PALETTE)]
                canvas.arrow(ax, start, end, colour=colour, head="->", back=3)
                ax.plot(*start, "o", color=colour, markersize=5)
            ax.set_title(title)
            ax.set_xlim(-2.3, 4.3)
            ax.set_ylim(-2.3, 4.3)
            ax.set_aspect("equal")
            ax.set_xticks([-2, 0, 2, 4])
            ax.set_yticks([-2, 0, 2, 4])
            ax.set_xlabel("feature 1")
        axes[1].plot([-2.2, 2.2], [2.2, -2.2], color=style.ink(), linewidth=0.8, linestyle=":")
        axes[0].set_ylabel("feature 2")
    return fig


def last_layer_gradient(layers: Sequence[int], gradients: Mapping[str, Sequence[float]]) -> Figure:
    """The gradient norm of the last block's weights against the number of blocks, by placement of the norm."""
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 3.3))
        markers = "os^v"
        for (name, values), colour, dash, marker in zip(
            gradients.items(), (style.RED, style.BLUE, style.TEAL), style.DASHES, markers, strict=False
        ):
            ax.plot(layers, values, color=colour, linestyle=dash, marker=marker, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(layers, [str(n) for n in layers])
        ax.minorticks_off()
        ticks = [0.5, 1, 2, 4]
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_xlabel("L, the number of blocks")
        ax.set_title("Gradient norm of the last block")
        ax.legend()
    return fig
