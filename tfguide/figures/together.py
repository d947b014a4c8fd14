"""Section 6.13 in pictures: the way down from the naive program, the peers, and what a step consists of."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.bench.gap import PARTS, READING
from tfguide.bench.models import bytes_read
from tfguide.bench.waterfall import TITLES
from tfguide.config import ModelConfig
from tfguide.cost.flops import decode_flops, prefill_flops
from tfguide.cost.listings import three_digits
from tfguide.figures.benchmarks import TYPES, contestant
from tfguide.figures.steppers import Cell, Frame, Row
from tfguide.figures.style import PALETTE, WIDTH, ink, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: What the bars of `gap_bars` show: the parts of a step in six groups.
GROUPS = {
    "reading the weights": ("weights", "head"),
    "reading the cache": ("cache",),
    "layers, head: beyond reading": ("layers", "head_rest"),
    "attention: beyond reading": ("attention",),
    "threads waiting": ("waiting",),
    "call, choice, not explained": ("call", "choice", "rest"),
}


#: What the states of the frames of `descent` mean.
LEGEND = {"new": "what the technique changes", "chosen": "what limits"}


def descent(config: ModelConfig, length: int, bytes_per_second: float, flops: float) -> list[Frame]:
    """The frames of the way down: what a token after `length` positions must compute and read, and its least time.

    bytes_per_second, flops: of the machine. A rate of products is taken for all types: what reads them in fewer bits
    rarely multiplies them slower.
    """
    rows = length + 1
    head = 2 * config.d_model * config.vocab_size * (rows - 1)  # the last row's is counted already
    again = prefill_flops(config, rows) + head, bytes_read(config, "float32", 0)
    single = decode_flops(config, rows)
    steps = [
        ("No cache: the whole text goes through the model for each token.", rows, *again),
        ("A cache: keys and values of the text are kept. One position is computed, the cache is read.", 1, single,
         bytes_read(config, "float32", rows)),
        ("Compiled, or C++ kernels: these numbers stay. What goes is time that no count shows.", 1, single,
         bytes_read(config, "float32", rows)),
    ]  # fmt: skip
    for dtype, words in (("bfloat16", "16 bits"), ("int8", "8 bits"), ("int4", "4 bits")):
        steps.append(
            (f"Weights of {words}: the same products, fewer bytes.", 1, single, bytes_read(config, dtype, rows))
        )
    frames, before = [], ("", "", "", "")
    for says, n, operations, n_bytes in steps:
        reading, computing = 1e3 * n_bytes / bytes_per_second, 1e3 * operations / flops
        texts = (
            f"{n:,}",
            f"{operations / 1e9:,.2f} GFLOP",
            f"{n_bytes / 1e6:,.0f} MB",
            f"{max(reading, computing):,.1f} ms",
        )
        limit = "products" if computing > reading else "reading"
        shown = [Cell(text, "new" if text != old else "") for text, old in zip(texts, before, strict=True)]
        names = ("positions computed", "products", "read from memory", "least time")
        last = Row(names[-1], (shown[-1], Cell(limit, "chosen")))
        frames.append(Frame(says, (*(Row(name, (cell,)) for name, cell in zip(names[:-1], shown, strict=False)), last)))
        before = texts
    return frames


def rung_name(row: Mapping[str, Any]) -> str:
    """A rung in words: what was added, and of plain programs the framework."""
    if row["program"] != "kernels":
        return f"{row['name']}, {TITLES[row['framework']]}"
    return row["name"] if "kernels" in row["name"] else f"kernels, {TYPES.get(row['name'], row['name'])}"


def waterfall(result: Mapping[str, Any]) -> Figure:
    """Milliseconds of a token by each rung on a logarithmic scale, and a mark where its bytes would be read."""
    rows = result["rows"]
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 0.3 * len(rows) + 0.9))
        for y, row in enumerate(rows):
            ms = 1e3 * row["seconds"]
            ax.barh(y, ms, color=PALETTE[0 if row["framework"] == "torch" else 1], height=0.7)
            ax.plot([ms / row["over_bytes"]] * 2, [y - 0.45, y + 0.45], color=ink(), linewidth=1.6, linestyle="-")
            about = f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"
            ax.annotate(about, (ms, y), (4, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(rows)), [rung_name(row) for row in rows])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        longest = max(1e3 * row["seconds"] for row in rows)
        least = min(1e3 * row["seconds"] / row["over_bytes"] for row in rows)
        ax.set(xscale="log", xlim=(least / 2, 2.2 * longest), xlabel="ms for a token; mark: reading its bytes")
        ticks = [k for k in (0.1, 1, 10, 100, 1000, 10000) if least / 2 <= k <= 2.2 * longest]
        ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
    return fig


def waterfall_table(result: Mapping[str, Any]) -> HTML:
    """The rungs: ms, times as fast as the first of the same framework, times its bytes' reading, equal tokens."""
    first = {row["framework"]: row["seconds"] for row in reversed(result["rows"])}
    return table(
        ("what was added last", "ms", "times as fast", "of its bytes", "equal tokens"),
        [
            (rung_name(row), f"{1e3 * row['seconds']:.2f}", f"{first[row['framework']] / row['seconds']:.1f}\u00a0x",
             f"{row['over_bytes']:.2f}\u00a0x", f"{row['same_tokens']} of {len(row['tokens'])}")
            for row in result["rows"]
        ],
    )  # fmt: skip


def gap_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The parts of a step as shares of it, a stacked bar for each type of weights and context, ms behind it.

    A part that came out negative, by noise, is left out of the bar.
    """
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 0.36 * len(rows) + 2.1))
        for y, row in enumerate(rows):
            left = 0.0
            for colour, (group, names) in zip(PALETTE, GROUPS.items(), strict=True):
                share = max(0.0, sum(row["parts"][name] for name in names)) / row["seconds"]
                ax.barh(y, share, left=left, color=colour, height=0.66, label=None if y else group)
                left += share
            about = f"{three_digits(1e3 * row['seconds'])} ms"
            ax.annotate(about, (max(left, 1.0), y), (4, 0), textcoords="offset points", va="center", fontsize=9)
        ax.set_yticks(range(len(rows)), [f"{TYPES[row['dtype']]}, {row['context']:,}" for row in rows])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xlim(0, 1.22)
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
        ax.set_xlabel("share of a step; left: weights and positions")
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def gap_table(rows: Sequence[Mapping[str, Any]]) -> HTML:
    """The parts of a step in milliseconds, a column for each type of weights and context."""
    head = ("ms of a step", *(f"{TYPES[row['dtype']]}, {row['context']:,}" for row in rows))
    lines = [(words, *(f"{1e3 * row['parts'][part]:.2f}" for row in rows)) for part, words in PARTS.items()]
    whole = ("the whole step", *(f"{1e3 * row['seconds']:.2f}" for row in rows))
    return table(head, [*lines, whole], numbers=True)


def reading_share(row: Mapping[str, Any]) -> float:
    """The share of a step in which its bytes could be read: what no program with these types can go below."""
    return sum(row["parts"][part] for part in READING) / row["seconds"]


def ratios_table(results: Iterable[Mapping[str, Any]], task: str = "decode") -> HTML:
    """How many times as fast this package is as each peer, by model and type of weights, and its share of the limit.

    The range is that of all results given: machines and prompts.
    """
    ratios: dict[tuple[str, str], dict[str, list[float]]] = {}
    for result in results:
        for row in result["rows"] if result["task"] == task else ():
            key = "share_of_bandwidth" if task == "decode" else "share_of_flops"
            found = ratios.setdefault((result["size"], row["dtype"]), {})
            if "error" in row:
                continue
            if row["name"] == "tfguide":
                found.setdefault("share", []).append(row[key])
            elif "ratio" in row:
                found.setdefault(row["name"], []).append(row["ratio"])
    names = list(dict.fromkeys(name for found in ratios.values() for name in found if name != "share"))
    order = sorted(ratios, key=lambda key: (key[0] != "S", list(TYPES).index(key[1])))
    lines = []
    for size, dtype in order:
        found = ratios[size, dtype]
        cells = [_range(found.get(name, []), "{:.2f}\u00a0x") for name in names]
        lines.append((f"{size}, {TYPES[dtype]}", *cells, _range(found.get("share", []), "{:.0%}")))
    return table(("model, weights", *names, "of the limit"), lines)


def equal_tokens(results: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    """How many of the first tokens of each contestant are ours, and of how many: {(type, contestant): (equal, all)}."""
    found = {}
    for result in results:
        ours = {(row["framework"], row["dtype"]): row for row in result["rows"] if row["name"] == "tfguide"}
        for row in result["rows"] if result["task"] == "decode" else ():
            if "tokens" in row and row["name"] != "tfguide":
                pairs = list(zip(row["tokens"], ours[row["framework"], row["dtype"]]["tokens"], strict=True))
                equal = next((k for k, (one, other) in enumerate(pairs) if one != other), len(pairs))
                found[TYPES[row["dtype"]], contestant(row)] = equal, len(pairs)
    return found


def mean_ratio(results: Iterable[Mapping[str, Any]], name: str, task: str = "decode") -> float:
    """The geometric mean of the ratios of one peer over all rows of a task: how many times as fast ours is."""
    rows = [row for result in results if result["task"] == task for row in result["rows"]]
    return statistics.geometric_mean(row["ratio"] for row in rows if row["name"] == name and "ratio" in row)


def _range(values, form):
    if not values:
        return "–"
    least, most = form.format(min(values)), form.format(max(values))
    return least if least == most else f"{least} to {most}"
