"""The tables and the figure of the conformance appendix: the differences to the reference, against the limit.

A row is what a test of `tests/conformance` recorded of one model in one framework: its choices and its
`largest_difference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from tfguide.figures.style import BLUE, GOLD, ink, size, style
from tfguide.figures.tables import Cell, grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}
PARTS = {  # as the rows name them, in the order of the table
    "Attention": (
        "windows in every layer", "windows by layer", "normalised queries and keys", "sinks in the softmax",
        "capped scores", "another scale of the scores", "latent attention",
    ),
    "Experts": ("softmax router, a shared expert, a dense layer", "sigmoid router, groups, a correction"),
    "Rotary positions": (
        "rotated in part", "another base for layers with a window", "linear scaling", "dynamic scaling",
        "llama3 scaling", "yarn scaling", "longrope scaling",
    ),
    "Norms": (
        "before each sublayer", "after the sum", "before both sublayers, side by side", "on both sides of a sublayer",
        "after the embedding",
    ),
    "Scales and caps": (
        "of the embedding", "of what a sublayer adds", "of the states before the head", "capped logits",
    ),
}  # fmt: skip
Rows = Sequence[Mapping[str, Any]]


def worst(rows: Rows, **wanted: object) -> float:
    """The largest difference among the rows that have the wanted values."""
    return max(row["largest_difference"] for row in rows if all(row[key] == value for key, value in wanted.items()))


def differences_table(rows: Rows, down: str, across: str | None = None) -> HTML:
    """The largest differences in units of 1e-6: a line for each value of `down`, columns for each framework.

    down, across: keys of the rows; with `across` a framework has a column for each value of that key.
    """
    inner = [{across: value} for value in _values(rows, across)] if across else [{}]
    columns = [{"framework": name} | more for name in FRAMEWORKS for more in inner]
    frameworks = [down.replace("_", " "), *(Cell(name, columns=len(inner)) for name in FRAMEWORKS.values())]
    lines = [
        [value, *(f"{worst(rows, **{down: value}, **column) * 1e6:.1f}" for column in columns)]
        for value in _values(rows, down)
    ]
    if across is None:
        return table(frameworks, lines)
    return table(["", *(column[across] for column in columns)], lines, above=frameworks)


def parts_table(rows: Rows) -> HTML:
    """The largest differences of the models that have a part, in units of 1e-6, and how many models those are."""
    lines = []
    for group, parts in PARTS.items():
        for part in parts:
            some = [row for row in rows if part in row["parts"]]
            numbers = (f"{worst(some, framework=name) * 1e6:.1f}" for name in FRAMEWORKS)
            lines.append((group, (part, *numbers, len(some) // len(FRAMEWORKS))))
    return grouped_table(("part", *FRAMEWORKS.values(), "models"), lines)


def optimisations_table(rows: Rows) -> HTML:
    """A line for each optimisation: its invariant, what each implementation measured, and the test file that proves it.

    rows: of `tests/conformance/test_optimisations.py`, with `group`, `name`, `invariant`, `proof`, `implementation`,
    `limit`, `measured` and `unit`: "" for a difference, "bound" for a share of a bound, or what must be the same.
    Of rows with the same name and implementation the worst is shown.
    """
    groups: dict[str, dict[str, list]] = {}
    for row in rows:
        groups.setdefault(row["group"], {}).setdefault(row["name"], []).append(row)
    lines = []
    for group, names in groups.items():
        for name, some in names.items():
            found = [[row for row in some if row["implementation"] == one] for one in ("reference", *FRAMEWORKS)]
            cells = (_measured(max(own, key=lambda row: row["measured"])) if own else "" for own in found)
            first = some[-1]
            lines.append(
                (
                    group,
                    (Cell(name, below=first["invariant"]), *cells, _limit(some), Cell(first["proof"], is_code=True)),
                )
            )
    return grouped_table(("optimisation", "NumPy", *FRAMEWORKS.values(), "limit", "proof"), lines)


def _measured(row):
    if row["unit"] == "bound":
        return f"{row['measured']:.0%} of it"
    if row["unit"]:
        return "equal" if row["measured"] == 0 else f"{row['measured']:.0f} differ"
    return f"{row['measured']:.1e}" if row["measured"] else "0"


def _limit(rows):
    """The limit in float32; for what is measured by the reference only, that in float64."""
    row = max(rows, key=lambda row: row["limit"])
    return {"": f"{row['limit']:.0e}", "bound": "its bound"}.get(row["unit"], f"equal {row['unit']}")


def families_table(folders: Rows, files: Rows, written: Rows) -> HTML:
    """A line for each family: the largest differences to transformers of folders and of GGUF files, in units of 1e-6.

    folders: rows with `family`, `framework` and `difference` of logits; files: with the name of the `architecture` too,
    the difference relative to the largest logit; written: of the architectures that are written and come back the same.
    """
    back = {row["architecture"] for row in written if row["difference"] == 0}
    lines = []
    for family in _values(folders, "family"):
        own = [row for row in files if row["family"] == family]
        name = own[0]["architecture"] if own else ""
        cells = [
            f"{1e6 * max(row['difference'] for row in some if row['framework'] == framework):.2g}" if some else ""
            for some in ([row for row in folders if row["family"] == family], own)
            for framework in FRAMEWORKS
        ]
        ways = ("read, written" if name in back else "read") if own else ""
        lines.append((Cell(family, is_code=True), *cells[:2], Cell(name, below=ways, is_code=bool(name)), *cells[2:]))
    above = ("", Cell("folder", columns=2), Cell("GGUF", columns=3))
    return table(("family", *FRAMEWORKS.values(), "name there", *FRAMEWORKS.values()), lines, above=above)


def _values(rows, key):
    return list(dict.fromkeys(row[key] for row in rows))


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
