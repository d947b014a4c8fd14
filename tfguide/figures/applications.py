"""The table of each task of chapter 7, and one figure over all of them: what the techniques do to score and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.bench.applications import VARIANTS
from tfguide.cost.listings import three_digits
from tfguide.figures.style import PALETTE, ink, size, style
from tfguide.figures.tables import Cell, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
NAMES = {
    "float32": "float32", "bfloat16": "bfloat16", "int8": "8 bits", "int4": "4 bits", "pruned": "pruned",
    "speculative": "speculative decoding",
}  # fmt: skip
MARKERS = dict(zip(VARIANTS, "osv^DP", strict=True))


def variants_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """The rows of one task, as `tfguide.bench.applications` measures them: a line for each variant.

    Scores, then how many times faster than float32 a framework is with the variant, then the bytes of the weights.
    """
    metrics = list(rows[0]["scores"])
    frameworks = [name for name in FRAMEWORKS if any(row["framework"] == name for row in rows)]
    by = {(row["variant"], row["framework"]): row for row in rows}
    shown = [name for name in VARIANTS if any(variant == name for variant, _ in by)]
    head = ["", *metrics, *(f"speed, {FRAMEWORKS[name]}" for name in frameworks), "weights"]
    return table(head, [_line(name, metrics, frameworks, by) for name in shown], numbers=True)


def scores_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """The first score of each task with each variant, of both frameworks where they differ as far as it is shown."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    shown = [name for name in VARIANTS if any(row["variant"] == name for row in rows)]
    lines = []
    for task in tasks:
        own = [row for row in rows if row["task"] == task]
        metric = next(iter(own[0]["scores"]))
        each = ([row["scores"][metric] for row in own if row["variant"] == name] for name in shown)
        lines.append([Cell(task, below=metric), *(_scores(values) or "-" for values in each)])
    return table(["", *(NAMES[name] for name in shown)], lines, numbers=True)


def _line(variant, metrics, frameworks, by):
    own = [by.get((variant, framework)) for framework in frameworks]
    known = [row for row in own if row]
    scores = [_scores([row["scores"][metric] for row in known]) for metric in metrics]
    speeds = [f"{row['ratio']:.2f}" if row else "-" for row in own]
    return [Cell(NAMES[variant], below=known[0]["about"]), *scores, *speeds, _megabytes(known[0]["n_bytes"])]


def _scores(values):
    """One score where the frameworks agree as far as it is shown, else each one's."""
    shown = [three_digits(value) if value > 1 else f"{value:.3f}" for value in values]
    return " / ".join(dict.fromkeys(shown))


def _megabytes(n_bytes):
    return f"{three_digits(n_bytes / 1e6)} MB"


def over_all(rows: Sequence[Mapping[str, Any]], framework: str) -> Figure:
    """The first score of each task, as a share of float32's, over the speed; a panel for each task of the rows."""
    tasks = list(dict.fromkeys(row["task"] for row in rows if row["framework"] == framework))
    lines = -(-len(tasks) // 2)
    with style():
        fig, axes = plt.subplots(lines, 2, figsize=size(0.42 * lines + 0.12), sharex=True, sharey=True, squeeze=False)
        handles = {}
        for ax, task in zip(axes.flat, tasks, strict=False):
            _panel(ax, [row for row in rows if (row["task"], row["framework"]) == (task, framework)], task)
            handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        for ax in axes.flat[len(tasks) :]:
            ax.axis("off")
        for ax in axes[:, 0]:
            ax.set_ylabel("share of float32's score")
        labels = [name for name in NAMES.values() if name in handles]
        fig.legend([handles[name] for name in labels], labels, loc="outside lower center", ncols=3)
    return fig


def points(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Of rows of one task and framework: how many times faster each variant is, and its share of the first score."""
    metric = next(iter(rows[0]["scores"]))
    whole = rows[0]["scores"][metric]
    return {row["variant"]: (row["ratio"], row["scores"][metric] / whole) for row in rows}


def _panel(ax, rows, task):
    for variant, (speed, share) in points(rows).items():
        colour = PALETTE[VARIANTS.index(variant) % len(PALETTE)]
        ax.plot(speed, share, MARKERS[variant], color=colour, label=NAMES[variant], clip_on=False, zorder=3)
    ax.axhline(1, color=ink(), linewidth=0.6, alpha=0.5)
    ax.axvline(1, color=ink(), linewidth=0.6, alpha=0.5)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.tick_params(labelbottom=True)
    ax.set_title(f"{task}: {next(iter(rows[0]['scores']))}")
    ax.set_xlabel("times faster than float32")
