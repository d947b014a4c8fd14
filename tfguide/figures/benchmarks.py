"""The tables and the figure of the benchmark page for one text: tokens a second, contestants side by side.

A result is what `tfguide bench --json` writes, as `tfguide.bench.predict.read_results` reads it: a task, a machine, the
`size` of its model, and a row for each contestant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.cost.listings import three_digits
from tfguide.figures.style import PALETTE, WIDTH, ink, style
from tfguide.figures.tables import Cell, grouped_table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

TYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16", "int8": "8 bits", "int4": "4 bits"}
_OURS = {"torch": "tfguide, PyTorch", "tensorflow": "tfguide, TensorFlow"}
_HEIGHT = 0.22  # inches of a bar


def processor(machine: Mapping[str, Any]) -> str:
    """A machine in words, from what `tfguide.bench.timing.machine` returns: its processor and its cores."""
    return f"{machine['processor']}, {machine['cores']} cores"


def contestant(row: Mapping[str, Any]) -> str:
    """The name of a row's contestant; ours is named with its framework."""
    return _OURS[row["framework"]] if row["name"] == "tfguide" else row["name"]


def level(result: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """The instructions that a row's program was built for; empty where the result does not say."""
    about = result["machine"]
    if row["name"].startswith("llama.cpp"):
        return about.get("llama.cpp", {}).get("level", "")
    return about.get("level", "") if row["name"] == "tfguide" else ""


def limits(results: Iterable[Mapping[str, Any]], key: str) -> str:
    """The least and the most that a limit of the machine was beside the results, in units of 1e9 a second."""
    values = [result["limits"][key] / 1e9 for result in results]
    return f"{min(values):.0f} to {max(values):.0f}"


def results_table(results: Iterable[Mapping[str, Any]], task: str) -> HTML:
    """The results of a task: a group for each model, type of weights and prompt, and the contestants below it.

    The level is that of `level`. A contestant that failed has its message instead of numbers.
    """
    groups: dict[str, list[tuple]] = {}
    for result in results:
        if result["task"] == task:
            for row in result["rows"]:
                about = f"model {result['size']}, {TYPES[row['dtype']]}, prompt of {row['prompt']}"
                groups.setdefault(about, []).append(_cells(row, level(result, row)))
    head = ("tokens/s", "of the limit", "ours is", "level", "")
    return grouped_table(head, [(about, cells) for about, rows in groups.items() for cells in rows])


def _cells(row, built_for):
    if "error" in row:
        return Cell(row["error"], columns=4), contestant(row)
    share = row.get("share_of_bandwidth", row.get("share_of_flops"))
    ratio = "" if row["name"] == "tfguide" or "ratio" not in row else f"{row['ratio']:.2f}\u00a0x"
    peak = row.get("memory", {}).get("peak_bytes")
    held = "" if peak is None else f"{peak / 1e6:,.0f} MB at most"
    return f"{row['tokens_per_second']:.1f}", f"{share:.0%}", ratio, built_for, Cell(contestant(row), below=held)


def instructions_table(found: Mapping[str, Any]) -> HTML:
    """ARM instructions for each multiply-add of a product, as tools/instructions/count.py counts them.

    A group for each level and a row for each type of weights: ours and llama.cpp's for one row of inputs, then more.
    """
    products = found["d_in"] * found["d_out"]
    groups: dict[tuple[str, str], list[str]] = {}
    for row in found["rows"]:
        each = [f"{row[who] / (row['rows'] * products):.3f}" for who in ("tfguide", "llama.cpp")]
        groups.setdefault((row["level"], TYPES[row["dtype"]]), []).extend(each)
    numbers = sorted({row["rows"] for row in found["rows"]})
    head = ["weights"] + [f"{who}, {_count_of_rows(n)}" for n in numbers for who in ("tfguide", "llama.cpp")]
    return grouped_table(head, [(level, (kind, *cells)) for (level, kind), cells in groups.items()])


def _count_of_rows(n):
    return "1 row" if n == 1 else f"{n} rows"


def decoding_by_type(results: Iterable[Mapping[str, Any]], size: str) -> dict[str, list[tuple[str, float, float]]]:
    """The decoding of the models of one size, as `speeds` draws it: {type: [(contestant, tokens/s, limit), ...]}.

    The limit is what the memory allowed in the same minutes, as in the table.
    """
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for result in results:
        if result["task"] == "decode" and result["size"] == size:
            for row in result["rows"]:
                if "error" not in row:
                    limit = row["tokens_per_second"] / row["share_of_bandwidth"]
                    bar = contestant(row), row["tokens_per_second"], limit
                    groups.setdefault(TYPES[row["dtype"]], []).append(bar)
    return {kind: groups[kind] for kind in TYPES.values() if kind in groups}


def speeds(groups: Mapping[str, Sequence[tuple[str, float, float]]]) -> Figure:
    """Horizontal bars of tokens a second, {group: [(contestant, tokens/s, limit), ...]}.

    The dashed line across a bar is its own limit: the memory's speed was measured beside each contestant. The number
    stands behind the bar, or behind the line where there is no room between the two.
    """
    longest = 1.14 * max(max(value, limit) for rows in groups.values() for _, value, limit in rows)
    names = list(dict.fromkeys(name for rows in groups.values() for name, _, _ in rows))
    height = _HEIGHT * sum(len(rows) + 1 for rows in groups.values()) + 1.1
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, height))
        y, ticks, shown = 0.0, [], set()
        for group, rows in groups.items():
            top = y
            for name, value, limit in rows:
                again, colour = divmod(names.index(name), len(PALETTE))
                look = {"color": PALETTE[colour], "hatch": "///" if again else None, "height": 0.8}
                ax.barh(y, value, label=None if name in shown else name, **look)
                shown.add(name)
                ax.plot([limit] * 2, [y - 0.5, y + 0.5], color=ink(), linewidth=1.4, linestyle=(0, (2, 1)))
                text = {"textcoords": "offset points", "va": "center", "fontsize": 9}
                there_is_room = limit - value > 0.15 * longest
                ax.annotate(three_digits(value), (value if there_is_room else max(value, limit), y), (4, 0), **text)
                y += 1
            ticks.append(((top + y - 1) / 2, group))
            y += 0.8
        ax.set_yticks([at for at, _ in ticks], [group for _, group in ticks])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(y - 1.2, -0.8)
        ax.set_xlim(0, longest)
        ax.set_xlabel("tokens a second; dashed: what the memory allowed")
        fig.legend(loc="outside lower center", ncols=2)
    return fig
