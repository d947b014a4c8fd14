"""The figures of a training run: the learning rate, and the curves of both frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.style import WIDTH, style
from tfguide.training import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
_SMOOTH = 20  # steps of a mean: the loss of one batch jumps


def schedule(recipe: Recipe) -> Figure:
    """The learning rate of every step."""
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 2.2))
        ax.plot(range(1, recipe.steps + 1), [1e3 * recipe.rate_of(step) for step in range(recipe.steps)])
        ax.axvline(recipe.warmup, linestyle=":", linewidth=1, color="gray")
        ax.text(recipe.warmup * 1.3, 0.12 * 1e3 * recipe.learning_rate, "warm-up ends")
        ax.set_ylim(bottom=0)
        ax.set_xlabel("step")
        ax.set_ylabel("learning rate x 1000")
    return fig


def curves(runs: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Loss, perplexity and the difference of the losses by step, of the runs of both frameworks.

    runs: what `tfguide train` wrote as curve.json, by the name of the framework.
    """
    with style():
        fig, axes = plt.subplots(3, 1, figsize=(WIDTH, 6.4), sharex=True)
        for name, run in runs.items():
            means = smooth(run["loss"])
            axes[0].plot(np.arange(len(means)) + _SMOOTH, means, label=NAMES[name])
            steps, values = zip(*run["perplexity"], strict=True)
            axes[1].plot(steps, values, marker="o", ms=3, label=NAMES[name])
        apart = differences(runs)
        axes[2].plot(np.arange(len(apart)) + 1, apart, linewidth=0.8)
        axes[0].set_title(f"loss, mean of {_SMOOTH} steps")
        axes[1].set_title("perplexity of the held-out text")
        axes[2].set_title("distance of the two losses of a step")
        axes[0].set_ylabel("nats a token")
        axes[1].set_yscale("log")
        axes[1].set_yticks([75, 100, 150, 200, 300, 500], [75, 100, 150, 200, 300, 500])
        axes[1].minorticks_off()
        axes[1].set_ylabel("perplexity")
        axes[2].set_yscale("log")
        axes[2].set_ylabel("nats a token")
        axes[2].set_xlabel("step")
        axes[0].legend()
    return fig


def smooth(losses: Sequence[float], width: int = _SMOOTH) -> np.ndarray:
    """The mean of each `width` losses that follow each other.

    >>> smooth([1.0, 3.0, 5.0], 2).tolist()
    [2.0, 4.0]
    """
    return np.convolve(losses, np.full(width, 1 / width), mode="valid")


def differences(runs: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """The absolute difference of the losses of both runs at each step; at least the last digit that is written."""
    one, other = (np.array(run["loss"]) for run in runs.values())
    return np.maximum(np.abs(one - other), 1e-4)
