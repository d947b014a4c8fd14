"""The figure of the conformance appendix: how the differences to the reference are spread, against the limit."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures.style import BLUE, GOLD, ink, size, style


def difference_histogram(differences: Mapping[str, Sequence[float]], limit: float) -> Figure:
    """Histograms of the largest differences, one for each name, on one logarithmic axis with the limit."""
    values = [value for some in differences.values() for value in some]
    edges = np.logspace(np.floor(np.log10(min(values))), np.ceil(np.log10(max(limit, *values))), 45)
    with style():
        fig, axes = plt.subplots(
            len(differences), 1, figsize=size(0.31 * len(differences)), sharex=True, sharey=True, squeeze=False
        )
        for ax, (name, some), colour in zip(axes[:, 0], differences.items(), (BLUE, GOLD), strict=False):
            ax.hist(some, edges, color=colour)
            ax.axvline(limit, color=ink(), linewidth=1.4, linestyle=(0, (4, 2)))
            ax.set_xscale("log")
            ax.set_title(name)
            ax.set_ylabel("models")
        axes[0, 0].annotate(
            "limit", (limit, 1), (-6, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right", va="top",
        )  # fmt: skip
        axes[-1, 0].set_xlabel("largest difference to the float64 reference")
    return fig
