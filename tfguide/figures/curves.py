"""The curves and tables of many rows and of long texts: what `tfguide bench rows` and `tfguide bench lengths` wrote.

Results are those of `tfguide.bench.predict.read_results`. A panel is a type of weights; a dashed line is what bounds
the solid line of its colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

from tfguide.figures.benchmarks import TYPES, contestant, level
from tfguide.figures.style import DASHES, PALETTE, WIDTH, style
from tfguide.figures.tables import Cell, grouped_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float, float | None]]  # (rows or positions, what was measured, its bound or None)
_HEIGHT = 2.1  # inches of a panel
_MARKERS = "osD^v<>PX*"


def by_rows(results: Iterable[Mapping[str, Any]], size: str) -> dict[str, dict[str, Curve]]:
    """Tokens a second by number of rows, {type: {contestant: [(rows, tokens/s, bound), ...]}}, of one size of model."""
    return _curves(
        _rows(results, "rows", size), contestant, "batch", lambda row: (row["tokens_per_second"], _bound(row)), max
    )


def steps_by_length(results: Iterable[Mapping[str, Any]], size: str) -> dict[str, dict[str, Curve]]:
    """Milliseconds of a step by positions before it, with the time that its bytes say, {type: {contestant: curve}}."""

    def times(row):
        milliseconds = 1e3 * row["seconds"]
        return milliseconds, milliseconds / row["over_bytes"] if "over_bytes" in row else None

    return _curves(_rows(results, "lengths", size), _with_cache, "prompt", times, min)


def prompts_by_length(results: Iterable[Mapping[str, Any]], size: str) -> dict[str, dict[str, Curve]]:
    """Tokens a second of a prompt by its length, with what its operations say, {type: {contestant: curve}}."""

    def speeds(row):
        speed = row["prompt_tokens_per_second"]
        return speed, speed * row["over_operations"] if row["name"] == "tfguide" else None

    return _curves(_rows(results, "lengths", size), _with_cache, "prompt", speeds, max)


def curves(panels: Mapping[str, Mapping[str, Curve]], x: str, y: str, scale: str = "log") -> Figure:
    """A panel for each type of weights, one below the other: a line for each contestant, and its bound dashed.

    x, y: the words at the axes; scale: of x, "log" (powers of 2) or "linear". Raises ValueError where there is nothing
    to draw.
    """
    if not panels:
        raise ValueError("there are no results to draw")
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    with style():
        fig, axes = plt.subplots(
            len(panels), 1, figsize=(WIDTH, _HEIGHT * len(panels) + 0.3 * len(names)), sharex=True, squeeze=False
        )
        for ax, (kind, lines) in zip(axes[:, 0], panels.items(), strict=True):
            for name, points in lines.items():
                look = {"color": PALETTE[names.index(name) % len(PALETTE)]}
                marker = _MARKERS[names.index(name) % len(_MARKERS)]
                ax.plot(
                    *zip(*[point[:2] for point in points], strict=True), "-", marker=marker, ms=4, label=name, **look
                )
                bound = [(at, value) for at, _, value in points if value is not None]
                if bound:
                    ax.plot(*zip(*bound, strict=True), linestyle=DASHES[1], linewidth=1.1, **look)
            ticks = sorted({at for points in lines.values() for at, _, _ in points})
            ax.set_xscale(scale, **({"base": 2} if scale == "log" else {}))
            ax.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.set_ylim(bottom=0)
            ax.set_title(kind)
            ax.set_ylabel(y)
        axes[-1, 0].set_xlabel(x)
        handles = {line.get_label(): line for ax in axes[:, 0] for line in ax.lines if line.get_label() in names}
        fig.legend([handles[name] for name in names], names, loc="outside lower center", ncols=2)
    return fig


def rows_table(results: Iterable[Mapping[str, Any]]) -> HTML:
    """Decoding with many rows: a group for each model and type of weights, a line for each number and contestant."""
    lines = []
    for result in results:
        if result["task"] == "rows":
            for row in result["rows"]:
                lines.append((f"model {result['size']}, {TYPES[row['dtype']]}", _rows_cells(row, level(result, row))))
    return grouped_table(("rows", "tokens/s", "of the bound", "ours is", "level", ""), lines)


def lengths_table(results: Iterable[Mapping[str, Any]]) -> HTML:
    """Long texts: a group for each model and type of weights, a line for each length and contestant."""
    lines = []
    for result in results:
        if result["task"] == "lengths":
            for row in result["rows"]:
                about = f"model {result['size']}, {TYPES[row['dtype']]}"
                lines.append((about, _lengths_cells(row, level(result, row))))
    head = ("positions", "a step", "of its bytes", "ours is", "prompt", "of its operations", "ours is", "level", "")
    return grouped_table(head, lines)


def _rows(results, task, size):
    """The rows that have times."""
    for result in results:
        if result["task"] == task and result["size"] == size:
            yield from (row for row in result["rows"] if "error" not in row)


def _curves(rows, name_of, key, values_of, better):
    """{type: {name: [(x, value, bound), ...]}}; llama.cpp stands beside each framework, and its better run counts."""
    found: dict[str, dict[str, dict[int, tuple]]] = {}
    for row in rows:
        places = found.setdefault(TYPES[row["dtype"]], {}).setdefault(name_of(row), {})
        value, before = values_of(row), places.get(row[key])
        places[row[key]] = value if before is None else better(before, value, key=lambda pair: pair[0])
    kinds = [kind for kind in TYPES.values() if kind in found]
    return {
        kind: {name: [(at, *places[at]) for at in sorted(places)] for name, places in found[kind].items()}
        for kind in kinds
    }


def _bound(row):
    return row["tokens_per_second"] / row["share"] if "share" in row else None


def _with_cache(row):
    return f"{contestant(row)}, cache {TYPES[row['cache_dtype']]}"


def _ratio(row, key):
    return "" if row["name"] == "tfguide" else f"{row[key]:.2f}\u00a0x"


def _rows_cells(row, built_for):
    if "error" in row:
        return Cell(row["error"], columns=5), contestant(row)
    share = f"{row['share']:.0%}" if "share" in row else ""
    return (
        row["batch"], f"{row['tokens_per_second']:.1f}", share, _ratio(row, "ratio"), built_for, contestant(row),
    )  # fmt: skip


def _lengths_cells(row, built_for):
    if "error" in row:
        return Cell(row["error"], columns=8), contestant(row)
    over = f"{row['over_bytes']:.2f}\u00a0x" if "over_bytes" in row else ""
    return (
        f"{row['prompt']:,}", f"{1e3 * row['seconds']:.1f} ms", over, _ratio(row, "ratio"),
        f"{row['prompt_tokens_per_second']:.0f} tokens/s", f"{row['over_operations']:.2f}\u00a0x",
        _ratio(row, "prompt_ratio"), built_for, Cell(contestant(row), below=f"cache {TYPES[row['cache_dtype']]}"),
    )  # fmt: skip
