"""Compilation in pictures: what starting operations costs, and after how many steps a compilation has paid.

A result is what `python -m tfguide.bench.compilation --json` wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfguide.figures.canvas import cell
from tfguide.figures.conformance import FRAMEWORKS
from tfguide.figures.style import BLUE, DASHES, GOLD, PALETTE, ink, size, style
from tfguide.figures.tables import grouped_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

    Span = tuple[float, float, str]  # seconds where it begins, its length, "start" or "read"

KINDS = {
    "eager": "as it is", "graph": "tf.function", "compiled": {"torch": "torch.compile", "tensorflow": "XLA"},
    "kernels": "C++ kernels",
}  # fmt: skip


def way(row: Mapping[str, Any]) -> str:
    """How the step of a row was run, in words."""
    name = KINDS[row["kind"]]
    return name if isinstance(name, str) else name[row["framework"]]


def rows_of(result: Mapping[str, Any], framework: str, model: str) -> dict[str, Mapping[str, Any]]:
    """The rows of one model in one framework, by kind. Raises ValueError if there are none."""
    found = {row["kind"]: row for row in result["rows"] if (row["framework"], row["model"]) == (framework, model)}
    if not found:
        raise ValueError(f"no rows of {model!r} in {framework}")
    return found


def models_of(result: Mapping[str, Any], framework: str) -> list[str]:
    """The models that were measured in one framework, in order."""
    return list(dict.fromkeys(row["model"] for row in result["rows"] if row["framework"] == framework))


def saved_seconds(rows: Mapping[str, Mapping[str, Any]]) -> float:
    """Seconds that a compiled step takes less than a plain one, for each operation that the plain one starts."""
    return (rows["eager"]["seconds"] - rows["compiled"]["seconds"]) / rows["eager"]["operations"]


def layer_times(rows: Mapping[str, Mapping[str, Any]], products: Sequence[bool]) -> dict[str, list[Span]]:
    """The spans of one layer in a plain step and in a compiled one, {way: [(begin, seconds, "start" or "read")]}.

    products: of each operation of a layer, in order, whether it multiplies by a matrix of weights. A step's seconds are
    divided by the layers. What lies beyond its bytes is shared by the operations; the bytes are shared by the products.
    """
    one = rows["eager"]
    reading = one["bytes_seconds"] / one["n_layers"] / sum(products)
    spans = {}
    for kind in ("eager", "compiled"):
        total = rows[kind]["seconds"] / one["n_layers"]
        started = list(products) if kind == "eager" else [True] * sum(products)
        each = max(total - reading * sum(products), 0.0) / len(started)
        at, spans[way(rows[kind])] = 0.0, []
        for reads in started:
            for seconds, what in ((each, "start"), (reading, "read"))[: 1 + reads]:
                spans[way(rows[kind])].append((at, seconds, what))
                at += seconds
    return spans


def layer_timeline(rows: Mapping[str, Mapping[str, Any]], products: Sequence[bool]) -> Figure:
    """The spans of `layer_times`, a lane for each way to run the step."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    colours = {"start": GOLD, "read": BLUE}
    lanes = layer_times(rows, products)
    with style():
        fig, ax = plt.subplots(figsize=size(0.42))
        for y, spans in enumerate(lanes.values()):
            for begin, seconds, what in spans:
                cell(ax, 1e6 * begin, y + 0.14, 1e6 * seconds, 0.72, colours[what], opacity=0.6, linewidth=0.35)
        ax.set(xlabel="microseconds of one layer", ylim=(len(lanes), 0))
        ax.set_xlim(0, 1e6 * max(spans[-1][0] + spans[-1][1] for spans in lanes.values()))
        ax.set_yticks([y + 0.5 for y in range(len(lanes))], list(lanes))
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        words = {"start": "all else", "read": "reading a matrix"}
        handles = [Patch(facecolor=colours[what], alpha=0.6, edgecolor=ink(), label=words[what]) for what in colours]
        fig.legend(handles=handles, loc="outside upper right", ncols=2)
    return fig


def by_operations(result: Mapping[str, Any], beginning: str) -> Figure:
    """Milliseconds of a step by the operations that a plain step starts, of the models whose name so begins.

    A panel for each framework, with a scale of its own, logarithmic in the seconds.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, panels = plt.subplots(2, 1, figsize=size(1.0))
        for ax, (framework, name) in zip(panels, FRAMEWORKS.items(), strict=True):
            for k, kind in enumerate(KINDS):
                rows = [
                    row for row in result["rows"]
                    if (row["framework"], row["kind"]) == (framework, kind) and row["model"].startswith(beginning)
                ]  # fmt: skip
                if rows:
                    points = sorted((row["operations"], 1e3 * row["seconds"]) for row in rows)
                    look = {"linestyle": DASHES[k], "marker": "os^D"[k], "color": PALETTE[k]}
                    ax.plot(*zip(*points, strict=True), label=way(rows[0]), **look)
            ax.set(title=name, ylabel="ms for a step", yscale="log")
            ax.yaxis.set_major_formatter("{x:g}")
            ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.12))
        panels[-1].set_xlabel("operations that a plain step starts")
    return fig


def steps_table(result: Mapping[str, Any]) -> HTML:
    """Milliseconds of a step by each way, over those of its bytes and under those of a plain one, by model."""
    return grouped_table(
        ("a step", "of its bytes", "as fast as plain", "how it is run"),
        [(_group(row), _step(row, rows_of(result, row["framework"], row["model"]))) for row in result["rows"]],
    )


def worth_table(result: Mapping[str, Any]) -> HTML:
    """Seconds of compilation, what a step gains, and after how many steps the compilation has paid."""
    rows = [row for row in result["rows"] if row["kind"] in ("graph", "compiled")]
    return grouped_table(
        ("paid after", "compilation", "gain of a step", "programs", "how it is run"),
        [(_group(row), _worth(row, rows_of(result, row["framework"], row["model"]))) for row in rows],
    )


def _group(row):
    return f"{row['model']}, {FRAMEWORKS[row['framework']]}, {row['operations']:,} operations"


def _step(row, rows):
    times = rows["eager"]["seconds"] / row["seconds"]
    over = row["seconds"] / row["bytes_seconds"]
    return f"{1e3 * row['seconds']:.2f} ms", f"{over:.1f}\u00a0x", f"{times:.1f}\u00a0x", way(row)


def _worth(row, rows):
    after = "never" if row["worth"] is None else f"{row['worth']:,} steps"
    gain = 1e3 * (rows["eager"]["seconds"] - row["seconds"])
    return after, f"{row['first_seconds']:.1f} s", f"{gain:.2f} ms", str(row["programs"][-1]), way(row)
