"""Sentences with their semantic roles, and what `tfguide.bench.roles` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.textpath import TextPath

from tfguide.figures.applications import FRAMEWORKS
from tfguide.figures.style import PALETTE, WIDTH, ink, style
from tfguide.figures.tables import Cell, table
from tfguide.tasks.roles import ROLES, Sentence, spans_of

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

_GAP = 0.09  # inches between two words
_SIZE = 10  # points of the words
_LINE = 0.62  # inches of a line of words with their roles


def labelled(sentences: Sequence[Sentence]) -> Figure:
    """Sentences on lines, each span with a bar below it and the name of its role; long ones go on in the next line."""
    lines = [line for one in sentences for line in _lines(one)]
    height = _LINE * len(lines) + 0.1
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, height))
        ax.set_xlim(0, WIDTH)
        ax.set_ylim(height, 0)
        ax.axis("off")
        for number, (words, spans) in enumerate(lines):
            y = 0.2 + _LINE * number
            for text, left, right in words:  # in the middle: the font of the page is not the one that was measured
                ax.text((left + right) / 2, y, text, ha="center", va="center", fontsize=_SIZE)
            for role, left, right in spans:
                colour = ink() if role == "V" else PALETTE[ROLES.index(role) % len(PALETTE)]
                ax.plot(
                    [left, right], [y + 0.14] * 2, color=colour, linewidth=2.5, solid_capstyle="butt", linestyle="-"
                )
                ax.text((left + right) / 2, y + 0.27, role, ha="center", va="center", fontsize=8)
    return fig


def _lines(sentence):
    """The words of each line, and the spans there: (text or role, left, right), in inches."""
    lines, left = [([], [])], 0.0
    places = []
    for word in sentence.words:
        wide = TextPath((0, 0), word, size=_SIZE).get_extents().width / 72
        if left + wide > WIDTH and lines[-1][0]:
            lines.append(([], []))
            left = 0.0
        lines[-1][0].append((word, left, left + wide))
        places.append((len(lines) - 1, left, left + wide))
        left += wide + _GAP
    for role, first, end in spans_of(sentence.tags):
        for line in dict.fromkeys(places[i][0] for i in range(first, end)):
            own = [places[i] for i in range(first, end) if places[i][0] == line]
            lines[line][1].append((role, own[0][1], own[-1][2]))
    return lines


def models_table(result: Mapping[str, Any]) -> HTML:
    """A line for each tagger: F1 over all spans, and the sentences without an error, for both kinds of verbs."""
    kinds = list(result["sentences"])
    by = {(row["model"], row["verbs"]): row for row in result["models"]}
    names = list(dict.fromkeys(row["model"] for row in result["models"]))
    head = ["", *(f"F1, {kind}" for kind in kinds), *(f"whole sentences, {kind}" for kind in kinds)]
    rows = []
    for name in names:
        own = [by[name, kind] for kind in kinds]
        framework = FRAMEWORKS.get(own[0]["framework"], "")
        cell = Cell("MiniLM, a head for tags", below=framework) if framework else name
        shown = [f"{row['scores']['all']:.3f}" for row in own] + [f"{row['whole_sentences']:.1%}" for row in own]
        rows.append([cell, *shown])
    return table(head, rows, numbers=True)


def by_role_table(result: Mapping[str, Any], meanings: Mapping[str, str]) -> HTML:
    """A line for each role: F1 of the first trained model with both kinds of verbs, and of counting with the last one.

    meanings: what each role says.
    """
    kinds = list(result["sentences"])
    by = {(row["model"], row["verbs"]): row["scores"] for row in result["models"]}
    first = next(row["model"] for row in result["models"] if row["framework"] != "none")
    columns = [(first, kind) for kind in kinds] + [("by words and verb", kinds[-1])]
    rows = [
        [Cell(role, below=meanings[role]), *(f"{by[column].get(role, 0.0):.3f}" for column in columns)]
        for role in ROLES
        if role in by[columns[0]]
    ]
    return table(["role", *(f"MiniLM, {kind}" for kind in kinds), f"by words, {kinds[-1]}"], rows, numbers=True)


def wrong_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """Sentences with their predicate in brackets, and the spans that were missed and found instead."""
    lines = []
    for row in rows:
        words = [f"[{word}]" if i == row["predicate"] else word for i, word in enumerate(row["words"])]
        right, given = (set(spans_of(row[key])) for key in ("tags", "given"))
        lines.append([" ".join(words), *(_phrases(row["words"], some) for some in (right - given, given - right))])
    return table(["sentence", "missed", "found instead"], lines)


def _phrases(words, spans):
    some = sorted(spans, key=lambda span: span[1])
    return "; ".join(f"{role}: {' '.join(words[first:end])}" for role, first, end in some) or "-"
