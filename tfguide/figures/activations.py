"""Figures of the activations: the GELU, exact and approximate, and the difference."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures import style


def gelu(x: np.ndarray, exact: np.ndarray, approximate: np.ndarray, swish: np.ndarray) -> Figure:
    """ReLU, GELU and swish over `x` (above), and the error of the tanh formula (below); all arrays (n,)."""
    with style.style():
        fig, (top, bottom) = plt.subplots(2, 1, figsize=(5.2, 5.2), height_ratios=(3, 2))
        near = np.abs(x) <= 4
        curves = (("ReLU", np.maximum(x, 0)), ("GELU, exact", exact), ("swish (SiLU)", swish))
        for (name, y), colour, dash in zip(
            curves, (style.MAUVE, style.BLUE, style.GOLD), ("--", "-", (0, (5, 1.5, 1, 1.5))), strict=True
        ):
            top.plot(x[near], y[near], label=name, color=colour, linestyle=dash)
        top.set_ylim(-0.5, 3)
        top.axhline(0, color=style.ink(), linewidth=0.5)
        top.legend(loc="upper left")
        top.set_title("Three activations")
        bottom.plot(x[near], 1e4 * (approximate - exact)[near], color=style.RED)
        bottom.axhline(0, color=style.ink(), linewidth=0.5)
        bottom.set_title("tanh formula minus exact GELU, in units of 0.0001")
        bottom.set_xlabel("x")
    return fig
