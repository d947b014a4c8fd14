"""Compilation in pictures: what starting operations costs, and after how many steps a compiled one is worth it.

A result is what `python -m tfguide.bench.compilation --json` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfguide.figures.style import DASHES, PALETTE, size, style
from tfguide.figures.tables import grouped_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}


def steps_table(result: Mapping[str, Any]) -> HTML:
    """Milliseconds of a step of each kind, and microseconds for each operation that Python starts."""
    head = ("model", "operations", "plain", "compiled", "kernels", "each operation")
    return grouped_table(head, [(FRAMEWORKS[row["framework"]], _steps(row)) for row in result["rows"]])


def worth_table(result: Mapping[str, Any]) -> HTML:
    """Seconds of compilation, the gain of a step, and after how many steps it has paid."""
    head = ("model", "compiling", "gain of a step", "faster", "paid after")
    return grouped_table(head, [(FRAMEWORKS[row["framework"]], _worth(row)) for row in result["rows"]])


def by_operations(result: Mapping[str, Any]) -> Figure:
    """Milliseconds of the steps of the narrow models by the number of operations that a plain step starts."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=size(0.6))
        for k, (framework, name) in enumerate(FRAMEWORKS.items()):
            rows = [row for row in result["rows"] if row["framework"] == framework and row["name"].startswith("narrow")]
            started = [row["operations"] for row in rows]
            for kind, dash, marker in (("plain", DASHES[0], "o"), ("compiled", DASHES[1], "s")):
                times = [1e3 * row[f"{kind}_seconds"] for row in rows]
                ax.plot(started, times, linestyle=dash, marker=marker, color=PALETTE[k], label=f"{name}, {kind}")
        ax.set(xlabel="operations that a plain step starts", ylabel="ms for a step")
        ax.set_xlim(left=0)
        ax.set_ylim(bottom=0)
        ax.legend()
    return fig


def start_seconds(row: Mapping[str, Any]) -> float:
    """What a plain step takes beyond the kernels, for each operation that it starts."""
    return (row["plain_seconds"] - row["kernels_seconds"]) / row["operations"]


def _steps(row):
    times = (f"{1e3 * row[f'{kind}_seconds']:.2f} ms" for kind in ("plain", "compiled", "kernels"))
    return row["name"], f"{row['operations']:,}", *times, f"{1e6 * start_seconds(row):.1f} \u00b5s"


def _worth(row):
    gain = row["plain_seconds"] - row["compiled_seconds"]
    after = "never" if row["worth_tokens"] is None else f"{row['worth_tokens']:,} steps"
    faster = f"{row['plain_seconds'] / row['compiled_seconds']:.1f}\u00a0x"
    return row["name"], f"{row['compile_seconds']:.0f} s", f"{1e3 * gain:.2f} ms", faster, after
