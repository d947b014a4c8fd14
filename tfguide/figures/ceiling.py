"""The ceiling of decoding: a roofline with a slider for the batch, which section 6.1 shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide import cost
from tfguide.figures.cost import rows_that_fit
from tfguide.figures.steppers import Frame, Row, cells
from tfguide.figures.style import DASHES, PALETTE, ink, size, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfguide.config import ModelConfig

#: What the states of the frames mean.
LEGEND = {"read": "memory limits", "new": "arithmetic limits"}


def batch_frames(config: ModelConfig, chip: cost.Chip, contexts: Sequence[int], batches: Sequence[int]) -> list[Frame]:
    """A frame for each batch: a row for each length of the texts, with what a step of decoding does at best."""
    frames = []
    for batch in batches:
        rows = []
        for context in contexts:
            step = cost.step(config, chip, chips=1, batch=batch, context=context)
            is_memory = step.weights_s + step.kv_s >= step.compute_s
            rows.append(
                Row(
                    f"{context:,} tokens",
                    cells(
                        f"{cost.decode_intensity(config, context, batch):.0f} op/byte",
                        f"{1e3 * step.roofline_s:.1f} ms",
                        f"{batch / step.roofline_s:,.0f} tokens/s",
                        "fits" if batch <= rows_that_fit(config, chip, context) else "does not fit",
                        state="read" if is_memory else "new",
                    ),
                )
            )
        texts = "text" if batch == 1 else "texts"
        frames.append(
            Frame(f"Batch {batch:,}. A step of decoding for {batch:,} {texts} of each length, at best:", tuple(rows))
        )
    return frames


def batch_roofline(config: ModelConfig, chip: cost.Chip, contexts: Sequence[int], batches: Sequence[int]) -> Figure:
    """The chip's roofline with a point for each length of the texts; the points of batch k have the gid "step-k"."""
    peak, memory = chip.peak_flops / 1e12, chip.hbm_bandwidth / 1e12
    x = np.geomspace(0.7, 3 * chip.critical_intensity, 200)
    with style():
        fig, ax = plt.subplots(figsize=size(0.65, 4.9))
        ax.loglog(x, np.minimum(peak, memory * x), color=ink(), linewidth=1.4, linestyle="-")
        for index, context in enumerate(contexts):
            colour, ceiling = PALETTE[index], cost.intensity_ceiling(config, context)
            if ceiling < x[-1]:
                ax.axvline(ceiling, color=colour, linestyle=DASHES[index + 1], linewidth=1.1)
            ax.plot([], [], "os^D"[index], color=colour, linestyle="none", label=f"{context:,} tokens")
            for k, batch in enumerate(batches):
                at = cost.decode_intensity(config, context, batch)
                ax.plot(at, min(peak, memory * at), "os^D"[index], color=colour, markersize=9, gid=f"step-{k}")
        ax.set_xlim(x[0], x[-1])
        ax.set_xticks([1, 10, 100], ["1", "10", "100"])
        ax.set_yticks([10, 100, 1000], ["10", "100", "1,000"])
        ax.minorticks_off()
        ax.set_xlabel("operations for each byte read")
        ax.set_ylabel("TFLOP/s at best")
        ax.grid(True)
        ax.legend(loc="upper left")
    return fig
