"""Speculation: the stepper of section 6.9, what rows cost, and speed-ups that were measured beside the formula."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfguide import cost
from tfguide.config import ModelConfig
from tfguide.cost import Chip
from tfguide.figures.steppers import Cell, Frame, Row, cells
from tfguide.figures.style import DASHES, PALETTE, ink, size, style
from tfguide.figures.tables import grouped_table
from tfguide.generation import accept

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {
    "new": "drafted", "accepted": "accepted", "rejected": "rejected", "gone": "after a rejection: not looked at",
    "chosen": "drawn by the target",
}  # fmt: skip


def rounds_frames(recorded: Mapping[str, Any]) -> list[Frame]:
    """The frames of some rounds: for each one what the draft proposes, and what the target decides.

    recorded: what `python -m tfguide.bench.rounds --json` wrote. Each round is decided again, by `accept`.
    """
    pieces = recorded["pieces"]
    text = [pieces[str(token)] for token in recorded["prompt"]]
    frames, calls, written = [], 0, 0
    for one in recorded["rounds"]:
        names = [pieces[str(token)] for token in one["drafted"]]
        n, token = decide(one)
        p, q = _chances(one)
        calls, written = calls + 1, written + n + 1
        old = cells(*map(_shown, text[-4:]))
        says = f"The draft continues the text by {len(names)} tokens, each drawn from its own distribution q."
        rows = [Row("text", old), Row("draft", cells(*map(_shown, names), state="new")), Row("q", cells(*_two(q)))]
        frames.append(Frame(says, tuple(rows)))
        states = ["accepted"] * n + ["rejected"] * (n < len(names)) + ["gone"] * (len(names) - n - 1)
        tried = [min(1.0, a / b) for a, b in zip(p, q, strict=True)]
        marked = [Cell(_shown(name), state) for name, state in zip(names, states, strict=True)]
        new = pieces[str(token)]
        frames.append(
            Frame(_verdict(names, n, new, tried, one["uniforms"]), (
                Row("text", old),
                Row("draft", tuple(marked)),
                Row("p / q, at most 1", _until(_two(tried), states)),
                Row("random number", _until(_two(one["uniforms"][:-1]), states)),
                Row("and then", (Cell(_shown(new), "chosen"),)),
                Row("so far", cells(_count(written, "token"), f"{_count(calls, 'call')} of the target")),
            ))
        )  # fmt: skip
        text += [*names[:n], new]
    return frames


def decide(one: Mapping[str, Any]) -> tuple[int, int]:
    """The verdict of `accept` on a recorded round: how many are accepted, and the token that follows."""
    width = max(map(len, one["support"]))
    target, draft = (np.zeros((len(rows), width)) for rows in (one["target"], one["draft"]))
    for whole, rows in ((target, one["target"]), (draft, one["draft"])):
        for i, row in enumerate(rows):
            whole[i, : len(row)] = row
    drafted = [some.index(token) for some, token in zip(one["support"], one["drafted"], strict=False)]
    n, place = accept(target, draft, drafted, one["uniforms"])
    return n, one["support"][n][place]


def _chances(one):
    """The target's and the draft's chances of each drafted token."""
    places = [some.index(token) for some, token in zip(one["support"], one["drafted"], strict=False)]
    return tuple([row[at] for row, at in zip(one[who], places, strict=False)] for who in ("target", "draft"))


def _verdict(names, n, new, tried, uniforms):
    if n == len(names):
        return f"One call of the target: it accepts all {n}, and adds a token of its own, '{_shown(new)}'."
    kept = f"accepts {n} and rejects '{_shown(names[n])}'" if n else f"rejects the first token, '{_shown(names[n])}'"
    return (
        f"One call of the target: it {kept}, since {uniforms[n]:.2f} is not below {tried[n]:.2f}. What the draft "
        f"proposed too rarely is drawn instead: '{_shown(new)}'."
    )


def _count(n, what):
    return f"{n} {what}{'s' * (n > 1)}"


def _shown(piece):
    """A token as it is read: line breaks are marked."""
    return piece.strip(" ").replace("\n", "\u21b5") or "\u2423"


def _two(numbers):
    return [f"{number:.2f}" for number in numbers]


def _until(texts, states):
    """Numbers of the tokens that were looked at, in the states of these."""
    return tuple(Cell("" if state == "gone" else t, state) for t, state in zip(texts, states, strict=True))


def rows_table(result: Mapping[str, Any], dtypes: Sequence[str], chip: Chip, batches: Sequence[int]) -> HTML:
    """How many times as long as one row a step of several rows takes: measured, and by the bound of `cost.step`.

    result: of `tfguide bench rows`; chip: the machine that it ran on. Products are multiplied in bfloat16, those of
    float32 in float32.
    """
    config = ModelConfig.from_dict(result["config"])
    lines = []
    for dtype in dtypes:
        measured = rows_seconds(result, dtype)
        products = "float32" if dtype == "float32" else "bfloat16"
        bound = {
            n: cost.step(
                config, chip, 1, 1, 32 + n, new_tokens=n, weights=dtype, kv="bfloat16", products=products
            ).roofline_s
            for n in (1, *batches)
        }
        for about, times in (("measured", measured), ("bound", bound)):
            lines.append((f"weights in {dtype}", (about, *(f"{times[n] / times[1]:.2f}" for n in batches))))
    return grouped_table(("", *(f"{n} rows" for n in batches)), lines)


def rows_seconds(result: Mapping[str, Any], dtype: str) -> dict[int, float]:
    """The seconds of a step by its number of rows, of this package."""
    rows = [row for row in result["rows"] if row["name"] == "tfguide" and row["dtype"] == dtype]
    return {row["batch"]: row["seconds"] / row["new_tokens"] for row in rows}


def speedup_by_length(curves: Sequence[tuple[float, float, float]], most: int = 16) -> Figure:
    """The speed-up by the number of drafted tokens, a curve for each (acceptance, draft cost, cost of a row).

    The cost of a row is what each further token adds to the check, as a part of a step. The best length is marked.
    """
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        for i, (a, c, more) in enumerate(curves):
            lengths = range(most + 1)
            values = [cost.speculative_speedup(a, k, c, 1 + k * more) for k in lengths]
            best = cost.best_draft_length(a, c, more, most)
            label = f"a = {a:g}, c = {c:g}" + (f", a row {more:g}" if more else "")
            ax.plot(lengths, values, color=PALETTE[i], linestyle=DASHES[i % len(DASHES)], label=label)
            ax.plot([best], [values[best]], color=PALETTE[i], marker="os^D"[i % 4], linestyle="none")
        ax.axhline(1, color=ink(), linewidth=0.8, linestyle=DASHES[2])
        ax.set(xlabel="k, tokens drafted for each call", ylabel="times as fast")
        ax.set_ylim(bottom=0)
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def best_rows(result: Mapping[str, Any]) -> list[dict]:
    """Of each task and draft the row whose draft length was the fastest."""
    best: dict[tuple[str, str], dict] = {}
    for row in result["rows"]:
        key = row["task"], row["draft"]
        if key not in best or row["speedup"] > best[key]["speedup"]:
            best[key] = row
    return list(best.values())


def speedup_table(result: Mapping[str, Any]) -> HTML:
    """The best draft length of each draft: speed-up, prediction, and what the prediction was made of, by task."""
    lines = [
        (
            row["task"],
            (
                row["draft"], f"{row['speedup']:.2f}\u00a0x", f"{row['predicted']:.2f}\u00a0x", row["k"],
                f"{row['acceptance']:.0%}", f"{row['tokens_per_call']:.2f}", f"{row['expected_tokens']:.2f}",
                f"{row['draft_cost']:.2f}",
            ),
        )
        for row in best_rows(result)
    ]  # fmt: skip
    head = ("draft", "times as fast", "predicted", "k", "a", "tokens a call", "formula", "c")
    return grouped_table(head, lines)


def speedups(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Measured speed-ups and predicted ones, of the best length of each draft: a panel for each result, by its name."""
    import matplotlib.pyplot as plt

    counts = [len(best_rows(result)) for result in results.values()]
    tasks = sum(len({row["task"] for row in result["rows"]}) for result in results.values())
    height = 0.19 * sum(counts) + 0.25 * tasks + 1.1
    with style():
        fig, axes = plt.subplots(
            len(results), 1, figsize=(size()[0], height), sharex=True, squeeze=False, height_ratios=counts
        )
        for ax, (title, result) in zip(axes[:, 0], results.items(), strict=True):
            _panel(ax, best_rows(result))
            ax.set_title(title)
        axes[-1, 0].set_xlabel("times as fast as without a draft")
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def _panel(ax, rows):
    y, ticks, task = 0.0, [], None
    drafts = list(dict.fromkeys(row["draft"] for row in rows))
    for row in rows:
        if row["task"] != task:
            y += 0.6
            ticks.append((y, row["task"], True))
            y += 1.0
            task = row["task"]
        colour = PALETTE[drafts.index(row["draft"]) % len(PALETTE)]
        first = "predicted" if not ax.get_lines() else None
        ax.plot([row["predicted"], row["speedup"]], [y, y], color=colour, linewidth=1, linestyle="-", zorder=1)
        ax.plot([row["predicted"]], [y], "D", color=colour, markerfacecolor="none", markersize=5, label=first)
        ax.plot([row["speedup"]], [y], "o", color=colour, markersize=6, label="measured" if first else None)
        ticks.append((y, row["draft"], False))
        y += 1.0
    ax.set_yticks([at for at, _, _ in ticks], [name for _, name, _ in ticks])
    for label, (_, _, is_task) in zip(ax.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if is_task else "normal")
    ax.tick_params(axis="y", length=0)
    ax.axvline(1, color=ink(), linewidth=0.8, linestyle=DASHES[2])
    ax.set_ylim(y, 0)
    ax.set_xlim(left=0)
