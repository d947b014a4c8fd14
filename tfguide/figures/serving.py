"""Servers under load: times by throughput, and the share of requests that were answered in time, by their rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfguide.bench.serve import knee
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.figures.tables import Cell, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

TIMES = (("ttft", 1, 2), ("tpot", 1e-3, 1))  # with their unit in seconds, and the digits behind the point
SHARE = 0.9  # of good requests, down to which a server counts as keeping up


def names_of(result: Mapping[str, Any]) -> list[str]:
    """The contestants of a result, in the order of its rows."""
    return list(dict.fromkeys(row["name"] for row in result["rows"]))


def rows_of(result: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The rows of a contestant that were measured, by their rate."""
    own = [row for row in result["rows"] if row["name"] == name and "error" not in row]
    return sorted(own, key=lambda row: row["rate"])


def latency_by_throughput(result: Mapping[str, Any]) -> Figure:
    """Seconds to the first token, and for each further one, by the tokens a second that a server delivered.

    result: what `tfguide bench serve --json` wrote. A line for each contestant, its points in the order of the rates:
    the median, and the 99th percentile as a thin line with hollow points. The limits of a good request are drawn.
    """
    import matplotlib.pyplot as plt

    panels = (("ttft", "to the first token, s"), ("tpot", "for each further one, s"))
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(1.1), sharex=True)
        for ax, (key, label) in zip(axes, panels, strict=True):
            for i, name in enumerate(names_of(result)):
                rows = [row for row in rows_of(result, name) if row[key]["p50"] is not None]
                speeds = [row["tokens_per_second"] for row in rows]
                look = {"color": PALETTE[i], "marker": "os^D"[i % 4]}
                ax.plot(speeds, [row[key]["p50"] for row in rows], linestyle=DASHES[0], label=name, **look)
                ax.plot(speeds, [row[key]["p99"] for row in rows], linestyle=DASHES[2], linewidth=1,
                        markerfacecolor="none", **look)  # fmt: skip
            ax.axhline(result["settings"][key], color=ink(), linewidth=0.8, linestyle=DASHES[1])
            ax.set(yscale="log", ylabel=label)
            ax.yaxis.set_major_formatter("{x:g}")
        axes[1].set_xlabel("tokens a second, of all answers")
        axes[1].set_xlim(left=0)
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def goodput_by_rate(result: Mapping[str, Any], share: float = SHARE) -> Figure:
    """The share of requests that kept both limits, by the rate of their arrival; a knee is marked where it falls."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=size(0.6))
        for i, name in enumerate(names_of(result)):
            rows = rows_of(result, name)
            look = {"color": PALETTE[i], "marker": "os^D"[i % 4], "linestyle": DASHES[i % len(DASHES)]}
            ax.plot([row["rate"] for row in rows], [100 * row["goodput"] for row in rows], label=name, **look)
            at = knee(result["rows"], name, share)
            if at is not None:
                ax.plot([at], [100 * share], "|", color=PALETTE[i], markersize=12)
                about = {"textcoords": "offset points", "ha": "right", "color": PALETTE[i]}
                ax.annotate(f"{at:.2g}", (at, 100 * share), (-4, -13), **about)
        ax.axhline(100 * share, color=ink(), linewidth=0.8, linestyle=DASHES[1])
        rates = sorted({row["rate"] for row in result["rows"]})
        ax.set(xscale="log", xlabel="requests a second", ylabel="answered in time, %", ylim=(-3, 105))
        ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
        ax.minorticks_off()
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def serving_table(result: Mapping[str, Any]) -> HTML:
    """A line for each rate and contestant: what was answered in time, the tokens a second, and the times."""
    lines: list[Sequence[object]] = []
    for row in result["rows"]:
        start = (row["name"], f"{row['rate']:g}")
        if "error" in row:
            lines.append((*start, Cell(row["error"], columns=6)))
            continue
        times = (_time(row[key], p, unit, digits) for key, unit, digits in TIMES for p in (50, 99))
        lines.append((*start, f"{row['goodput']:.0%}", f"{row['tokens_per_second']:.0f}", *times))
    head = ("", "requests/s", "in time", "tokens/s", "first token, s", "99%", "each further, ms", "99%")
    return table(head, lines, numbers=True)


def prefix_table(result: Mapping[str, Any]) -> HTML:
    """A line for each contestant: how long the first token takes where the prompt's beginning is new, and known."""
    rows = [row for row in result["prefix"] if "error" not in row]
    lines = [(row["name"], f"{row['times']:.1f}\u00a0x", f"{row['cold']:.3f}", f"{row['warm']:.3f}") for row in rows]
    return table(("", "as soon", "new, s", "known, s"), lines, numbers=True)


def engine_table(result: Mapping[str, Any]) -> HTML:
    """What the paged cache and the engine add to bare steps. result: of `python -m tfguide.bench.engine --json`."""
    head = ("model", "weights", "framework", "rows", "bare step, ms", "paged cache", "engine", "Python alone, ms")
    rows = [
        (
            row["model"], row["dtype"], row["framework"], str(row["rows"]), f"{1e3 * row['step_seconds']:.2f}",
            f"{row['paged_ratio']:.2f}", f"{row['engine_ratio']:.2f}", f"{1e3 * row['python_seconds']:.2f}",
        )
        for row in result["rows"]
    ]  # fmt: skip
    return table(head, rows, numbers=True)


def _time(values, p, unit, digits):
    return "" if values[f"p{p}"] is None else f"{values[f'p{p}'] / unit:.{digits}f}"
