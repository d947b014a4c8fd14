"""Figures of the activations: their curves, and the GELU beside its approximation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def activation_curves(curves: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> Figure:
    """Activation functions of one variable, by name."""
    x = np.linspace(-4, 3, 281)
    with style.style():
        fig, ax = plt.subplots(figsize=style.size(0.72, 4.8))
        ax.axhline(0, color=style.ink(), linewidth=0.6, linestyle="-")
        ax.axvline(0, color=style.ink(), linewidth=0.6, linestyle="-")
        for name, function in curves.items():
            ax.plot(x, function(x), label=name)
        ax.set_xlabel("input")
        ax.set_ylabel("output")
        ax.legend(fontsize=10)
    return fig
