"""How well the summarisers of section 7.2 do: a table, and a figure with how far each score may be off."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.figures.style import BLUE, GOLD, ink, size, style
from tfguide.figures.tables import table
from tfguide.tasks.docstrings import rouge

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

BASELINE = "first sentence"
_SCORES = ("rouge1", "rouge2", "rougeL")


def methods_table(methods: Mapping[str, Mapping[str, Any]]) -> HTML:
    """The three ROUGE of each method, the best first, and for how many texts both frameworks gave one answer.

    methods: {name: {framework: {"answers", "scores"}}}, as `tfguide.bench.summarisation` writes them.
    """
    rows = []
    for name, each in methods.items():
        first, *others = each.values()
        same = "-"
        if others:
            pairs = list(zip(first["answers"], others[0]["answers"], strict=True))
            same = f"{sum(one == two for one, two in pairs)} of {len(pairs)}"
        rows.append((name, *(f"{first['scores'][score]:.3f}" for score in _SCORES), same))
    rows.sort(key=lambda row: row[1], reverse=True)
    return table(("", "ROUGE-1", "ROUGE-2", "ROUGE-L", "same in both frameworks"), rows, numbers=True)


def singles(methods: Mapping[str, Mapping[str, Any]], wanted: Sequence[str]) -> dict[str, list[float]]:
    """The ROUGE-1 of each answer of each method, in its first framework."""
    answers = {name: next(iter(each.values()))["answers"] for name, each in methods.items()}
    return {
        name: [rouge([one], [right])["rouge1"] for one, right in zip(own, wanted, strict=True)]
        for name, own in answers.items()
    }


def differences(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """How far the mean of each method lies above that of the first sentence, and the standard error of that."""
    found = {}
    for name, own in scores.items():
        if name != BASELINE:
            above = [one - base for one, base in zip(own, scores[BASELINE], strict=True)]
            found[name] = statistics.mean(above), statistics.stdev(above) / len(above) ** 0.5
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def differences_figure(methods: Mapping[str, Mapping[str, Any]], wanted: Sequence[str]) -> Figure:
    """A bar for each method: its mean above or below the first sentence, with two standard errors to each side.

    What needs no model has another colour.
    """
    found = differences(singles(methods, wanted))
    with style():
        fig, ax = plt.subplots(figsize=size(0.12 * len(found) + 0.12))
        means, errors = zip(*found.values(), strict=True)
        colours = [GOLD if "none" in methods[name] else BLUE for name in found]
        ax.barh(range(len(found)), means, xerr=[2 * one for one in errors], color=colours, ecolor=ink(), height=0.55)
        ax.axvline(0, color=ink(), linewidth=0.8)
        ax.set_yticks(range(len(found)), [name.replace(" of the ", "\nof the ").replace(", ", ",\n") for name in found])
        ax.set_xlabel("ROUGE-1 above that of the first sentence")
    return fig
