"""What each word of a translation looks at in the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.style import heat_map, size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cross_attention(maps: Mapping[str, np.ndarray], source: Sequence[str], target: Sequence[str]) -> Figure:
    """Maps below each other on one colour scale: words of the translation in rows, pieces of the source in columns.

    maps: for each title the weights (T, S); source, target: what stands at the columns and at the rows.
    """
    height = 0.052 * len(target) + 0.1
    with style():
        fig, axes = plt.subplots(len(maps), 1, figsize=size(height * len(maps)), squeeze=False)
        for ax, (title, weights) in zip(axes.flat, maps.items(), strict=True):
            heat_map(ax, weights, vmin=0, vmax=1)
            ax.set_title(title)
            ax.set_xticks(range(len(source)), source)
            ax.set_yticks(range(len(target)), target)
    return fig


def strongest(weights: np.ndarray, source: Sequence[str], target: Sequence[str]) -> list[tuple[str, str]]:
    """Each word of the translation, and the piece of the source with its largest weight (T, S)."""
    return [(word, source[i]) for word, i in zip(target, weights.argmax(axis=1), strict=True)]
