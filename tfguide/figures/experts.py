"""The curves and the table of a mixture's steps by the experts that they read: what `tfguide bench experts` wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tfguide.figures.benchmarks import TYPES
from tfguide.figures.curves import Curve, curves
from tfguide.figures.tables import grouped_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure


def by_experts(results: Iterable[Mapping[str, Any]], size: str) -> dict[str, dict[str, Curve]]:
    """Milliseconds of a step by the experts of a layer that it read, {type: {"a step": curve}}, of one size of model.

    The bound of a point is the time in which the memory was read as fast as in the same rounds.
    """
    found: dict[str, dict[str, Curve]] = {}
    for result in results:
        if result["task"] == "experts" and result["size"] == size:
            for row in result["rows"]:
                milliseconds = 1e3 * row["seconds"]
                point = row["experts_read"], milliseconds, milliseconds / row["over_bytes"]
                found.setdefault(TYPES[row["dtype"]], {}).setdefault("a step", []).append(point)
    return {kind: found[kind] for kind in TYPES.values() if kind in found}


def steps_by_experts(results: Iterable[Mapping[str, Any]], size: str) -> Figure:
    """The curves of `by_experts`, a panel for each type of weights. Raises ValueError if there is nothing to draw."""
    return curves(by_experts(results, size), "experts that a step reads in each layer", "ms", scale="linear")


def experts_table(results: Iterable[Mapping[str, Any]]) -> HTML:
    """Steps by the experts that they read: a group for each model and type of weights, a line for each number."""
    lines = []
    for result in results:
        if result["task"] == "experts":
            for row in result["rows"]:
                lines.append((f"model {result['size']}, {TYPES[row['dtype']]}", _cells(row)))
    return grouped_table(("experts", "a step", "MB read", "of its bytes", "of a dense step"), lines)


def _cells(row):
    over = f"{row['over_dense']:.2f}\u00a0x" if "over_dense" in row else ""
    return (
        f"{row['experts_read']:.4g}", f"{1e3 * row['seconds']:.2f} ms", f"{row['bytes'] / 1e6:.0f}",
        f"{row['over_bytes']:.2f}\u00a0x", over,
    )  # fmt: skip
