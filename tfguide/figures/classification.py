"""What `tfguide.bench.classification` measured: the models, what they mix up, and how sure they may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.applications import FRAMEWORKS
from tfguide.figures.style import BLUE, GOLD, heat_map, ink, size, style
from tfguide.figures.tables import Cell, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

WAYS = {
    "sum": "the log probability of the label", "mean": "divided by its tokens", "gain": "less that without a text",
}  # fmt: skip


def models_table(result: Mapping[str, Any]) -> HTML:
    """A line for each classifier with its scores, those that no framework computes first."""
    rows = result["models"]
    metrics = list(rows[0]["scores"])
    return table(
        ["", *metrics],
        [
            [Cell(row["model"], below=FRAMEWORKS.get(row["framework"], "")), *_shown(row["scores"].values())]
            for row in rows
        ],
        numbers=True,
    )


def language_model_table(result: Mapping[str, Any]) -> HTML:
    """A line for each way in which SmolLM2 compares the labels, and the label that it gives most often."""
    rows, labels = result["language_model"], result["labels"]
    return table(
        ["", *rows[0]["scores"], "most often", "of"],
        [
            [WAYS[row["way"]], *_shown(row["scores"].values()), labels[int(np.argmax(row["counts"]))],
             f"{max(row['counts'])} of {row['texts']}"]
            for row in rows
        ],
    )  # fmt: skip


def _shown(values):
    return [f"{value:.3f}" for value in values]


def wrong_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """Texts that a model is sure of and gets wrong: where they stand, how they begin, both labels."""
    return table(
        ["text", "label", "given"],
        [
            [Cell(_short(row["text"]), below=row["place"]), row["label"], f"{row['given']}, {row['confidence']:.0%}"]
            for row in rows
        ],
    )


def _short(text, n=90):
    return text if len(text) <= n else text[: n - 3].rsplit(" ", 1)[0] + " ..."


def confusion_map(result: Mapping[str, Any]) -> Figure:
    """The share of the texts of each label (row) that was given each label (column), in per cent."""
    counts = np.array(result["confusion"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    labels = result["labels"]
    with style():
        fig, ax = plt.subplots(figsize=size(0.82))
        heat_map(ax, shares, vmin=0, vmax=1)
        ax.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(labels)), labels)
        ax.set_xlabel("given")
        ax.set_ylabel("label")
        for (i, j), share in np.ndenumerate(shares):
            if counts[i, j]:
                ax.text(j, i, f"{share:.0%}".rstrip("%"), ha="center", va="center", fontsize=9,
                        color="black" if share > 0.5 else "white")  # fmt: skip
    return fig


def reliability_diagram(result: Mapping[str, Any]) -> Figure:
    """The share of right answers over the confidence, before and after the temperature, and how many answers."""
    calibration = result["calibration"]
    with style():
        fig, (ax, below) = plt.subplots(2, 1, figsize=size(0.95), height_ratios=(2.4, 1), sharex=True)
        ax.plot([0, 1], [0, 1], color=ink(), linewidth=0.8, linestyle=":")
        parts = (("before", BLUE, "o", -0.02), ("after", GOLD, "s", 0.02))
        for name, colour, marker, shift in parts:
            bins = calibration[name]["bins"]
            at = [one["confidence"] for one in bins]
            ax.plot(at, [one["accuracy"] for one in bins], marker=marker, color=colour, label=name, linestyle="-")
            middle = np.minimum(np.floor(np.array(at) * 10), 9) / 10 + 0.05
            below.bar(middle + shift, [one["count"] for one in bins], width=0.035, color=colour)
        ax.set_ylabel("share that is right")
        ax.set_ylim(0, 1.03)
        ax.legend(title=f"temperature {calibration['temperature']:.2f}")
        below.set_ylabel("answers")
        below.set_xlabel("confidence")
        below.set_xlim(0, 1.02)
    return fig
