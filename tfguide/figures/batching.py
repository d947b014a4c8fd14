"""Serving in pictures: the stepper of section 6.11, block tables, and which text has which row at which step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfguide.figures.canvas import arrow, canvas, cell, text
from tfguide.figures.steppers import Cell, Frame, Row
from tfguide.figures.style import DASHES, PALETTE, size, style
from tfguide.serving import BlockPool, Chunk, LastChunk, Limits, Scheduler, Table
from tfguide.serving import Sequence as Text
from tfguide.serving.simulate import Arrival, steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {
    "new": "computed in this step", "read": "held by one text", "accepted": "shared by several",
    "kept": "held by none, content known", "rejected": "gave way in this step", "gone": "has ended",
}  # fmt: skip


FREE = "\u00b7"  # in the place of a name


def serving_frames(
    arrivals: Sequence[Arrival], *, n_blocks: int, block_size: int, rows: int, tokens: int
) -> list[Frame]:
    """A frame for each step of a scheduler that serves these arrivals, whose times are counted in steps.

    Texts are named A, B, ... in the order of their arrival. Every frame is read from the scheduler and its pool at the
    moment when they have decided the step. No two texts get the same new tokens.
    """
    limits = Limits(length=n_blocks * block_size, rows=rows, tokens=tokens, waiting=len(arrivals))
    scheduler = Scheduler(BlockPool(n_blocks, block_size), limits)
    frames: list[Frame] = []
    before: dict[Text, tuple[bool, int]] = {}  # whether each ran, and how often it was preempted
    names: dict[Text, str] = {}
    for step in steps(scheduler, arrivals, lambda n, read: 1.0, lambda s: -1 - s.number):
        names = {s: chr(ord("A") + i) for i, s in enumerate(step.came)}
        frames.append(_frame(len(frames) + 1, step, scheduler, names, before))
        before = {s: (s.row is not None, s.n_preempted) for s in step.came}
    frames.append(
        Frame(
            "All have ended: no table has a block. What the full blocks hold is still known, and the next text that "
            "begins in the same way finds it.",
            (Row("ended", tuple(Cell(name, "gone") for name in names.values())), _pool_row(scheduler.pool, names, ())),
        )
    )
    return frames


def _frame(number, step, scheduler, names, before):
    pool = scheduler.pool
    gave_way = [s for s in step.came if s.n_preempted > before.get(s, (False, 0))[1]]
    began = [s for s in scheduler.running if not before.get(s, (False, 0))[0] or s in gave_way]
    written = {block for chunk in step.chunks for block in _written(chunk, pool.block_size)}
    ended = tuple(Cell(names[s], "gone") for s in step.came if s.finish is not None)
    waiting = tuple(Cell(names[s], "rejected" if s in gave_way else "") for s in scheduler.waiting)
    ends = {chunk.sequence: chunk.end for chunk in step.chunks}
    rows = [
        Row("this step", tuple(Cell(f"{names[c.sequence]}: {_tokens(c)}", "new") for c in step.chunks)),
        Row("waiting", waiting or (Cell("nobody"),)),
        *([Row("ended", ended)] if ended else ()),
        _pool_row(pool, names, written),
        *(_table_row(names[s], s.table.blocks, ends.get(s, s.n_computed), pool, written) for s in scheduler.running),
    ]
    said = [f"Step {number}: {step.n_tokens} of at most {scheduler.limits.tokens} tokens."]
    said += [f"{names[s]} has come." for s in step.came if s not in before]
    said += [
        f"No block is left for the next token of a text that came earlier: {names[s]} gives up its own and waits."
        for s in gave_way
    ]
    said += [_beginning(names[s], s, chunk.start, pool) for chunk in step.chunks if (s := chunk.sequence) in began]
    said += [
        f"{names[chunk.sequence]} has more tokens than the step has left: the rest has to wait, and nothing is chosen."
        for chunk in step.chunks
        if not isinstance(chunk, LastChunk)
    ]
    if scheduler.waiting and not gave_way and step.n_tokens < scheduler.limits.tokens:
        what = "rows" if len(scheduler.running) == scheduler.limits.rows else "blocks"
        said.append(f"There are too few {what} for {names[scheduler.waiting[0]]}.")
    said += [
        f"With its next token {names[s]} ends."
        for chunk in step.chunks
        if isinstance(chunk, LastChunk) and (s := chunk.sequence).n_new + 1 == s.max_new_tokens
    ]
    return Frame(" ".join(said), tuple(rows))


def _written(chunk: Chunk, block_size: int) -> list[int]:
    """The blocks into which a chunk writes."""
    return chunk.sequence.table.blocks[chunk.start // block_size : (chunk.end - 1) // block_size + 1]


def _tokens(chunk):
    """The numbers of the tokens of a chunk, counted from 1."""
    return f"token {chunk.end}" if chunk.end - chunk.start == 1 else f"tokens {chunk.start + 1} to {chunk.end}"


def _beginning(name, sequence, start, pool):
    again = " again" if sequence.n_preempted else ""
    if not start:
        return f"{name} begins{again}."
    n = start // pool.block_size
    return f"{name} begins{again}: the pool has its first {start} tokens, in {n} block{'s' * (n > 1)}."


def _pool_row(pool, names, written):
    """A cell for each block: its number and whose it is."""
    shown = []
    for block in range(pool.n_blocks):
        owners = "".join(name for s, name in names.items() if block in s.table.blocks)
        if owners:
            state = "new" if block in written else "accepted" if len(owners) > 1 else "read"
        else:
            state = "kept" if pool.is_cached(block) else ""
        shown.append(Cell(f"{block} {owners or FREE}", state))
    return Row("pool", tuple(shown))


def _table_row(name, blocks, n_filled, pool, written):
    """A cell for each block of a text: its number and how many positions of it are filled."""
    shown = []
    for i, block in enumerate(blocks):
        n = max(0, min(pool.block_size, n_filled - i * pool.block_size))
        state = "new" if block in written else "accepted" if pool.holders(block) > 1 else "read"
        shown.append(Cell(f"{block}: {n} of {pool.block_size}", state))
    return Row(f"table of {name}", tuple(shown))


def block_tables(tables: Mapping[str, Table], lengths: Mapping[str, int], pool: BlockPool) -> Figure:
    """Tables of texts over the blocks of a pool: an arrow from each entry to its block.

    lengths: the filled positions of each text. An entry has the range of its positions; a block that two texts share
    has the colours of both, one over the other.
    """
    wide, high, left = 5.2, 2.75, 0.55
    unit = (wide - left - 0.1) / pool.n_blocks
    with style():
        ax = canvas(wide, high)
        colours = dict(zip(tables, PALETTE, strict=False))
        owners = {block: [name for name in tables if block in tables[name].blocks] for block in range(pool.n_blocks)}
        tops = {name: 0.12 if i == 0 else high - 0.52 for i, name in enumerate(tables)}
        middle = high / 2 - 0.2
        for name, table in tables.items():
            top, above = tops[name], tops[name] < middle
            text(ax, left - 0.12, top + 0.2, name, ha="right", fontweight="bold", color=colours[name])
            for i, block in enumerate(table.blocks):
                x = left + i * 1.05
                first, last = i * pool.block_size, min(lengths[name], (i + 1) * pool.block_size) - 1
                label = f"{first}\u2013{last}" if last > first else str(first)
                cell(ax, x, top, 0.92, 0.4, colours[name], opacity=0.25, label=label, size=10)
                arrow(
                    ax, (x + 0.46, top + (0.4 if above else 0)),
                    (left + (block + 0.5) * unit, middle + (0 if above else 0.4)), colour=colours[name],
                )  # fmt: skip
        text(ax, left - 0.12, middle + 0.2, "pool", ha="right")
        for block, names in owners.items():
            x = left + block * unit
            for k, name in enumerate(names):
                part = 0.4 / len(names)
                cell(ax, x, middle + k * part, unit, part, colours[name], opacity=0.4, linewidth=0.3)
            cell(ax, x, middle, unit, 0.4, label=str(block), size=10)
    return ax.figure


def row_timeline(rows: int, answers: Sequence[int]) -> Figure:
    """Which answer has which row at which step: static batches above, the scheduler below, all answers there at once.

    answers: their lengths in tokens; prompts of one token. An answer has the same colour in both.
    """
    import matplotlib.pyplot as plt

    spans = {"static": static_spans(rows, answers), "continuous": continuous_spans(rows, answers)}
    end = max(stop for some in spans.values() for *_, stop in some)
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(0.78), sharex=True)
        for ax, (name, some) in zip(axes, spans.items(), strict=True):
            for i, row, start, stop in some:
                colour = PALETTE[i % len(PALETTE)]
                cell(ax, start, row + 0.1, stop - start, 0.8, colour, opacity=0.45, linewidth=0.5)
            last = max(stop for *_, stop in some)
            ax.axvline(last, linewidth=0.9, linestyle=DASHES[2])
            ax.set(ylim=(rows, 0), xlim=(0, end * 1.02), ylabel="row")
            ax.set_yticks([row + 0.5 for row in range(rows)], [str(row) for row in range(rows)])
            ax.tick_params(axis="y", length=0)
            ax.set_title(f"{name}: {last} steps")
        axes[1].set_xlabel("step")
    return fig


def static_spans(rows: int, answers: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """(answer, row, first step, step behind the last) where each batch goes on until its longest answer is written."""
    found, start = [], 0
    for first in range(0, len(answers), rows):
        batch = answers[first : first + rows]
        found += [(first + row, row, start, start + n) for row, n in enumerate(batch)]
        start += max(batch)
    return found


def continuous_spans(rows: int, answers: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """The same as the scheduler decides it, with room for all in the cache."""
    n_blocks = sum(n // 16 + 1 for n in answers)
    scheduler = Scheduler(
        BlockPool(n_blocks, 16), Limits(length=max(answers) + 1, rows=rows, tokens=2 * rows, waiting=len(answers))
    )
    seen: dict[Text, tuple[int, int, int]] = {}
    came: list[Text] = []
    arrivals = [Arrival(0.0, [i], n) for i, n in enumerate(answers)]
    for k, step in enumerate(steps(scheduler, arrivals, lambda n, read: 1.0)):
        came = step.came
        for chunk in step.chunks:
            s = chunk.sequence
            seen[s] = (s.row, seen[s][1] if s in seen else k, k + 1)
    return [(came.index(s), *span) for s, span in seen.items()]


def gap_lines(gaps: Mapping[str, Sequence[float]]) -> Figure:
    """Milliseconds between the tokens of a text, a line for each named series of seconds."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=size(0.6))
        for name, some in gaps.items():
            ax.plot(range(1, len(some) + 1), [1e3 * s for s in some], drawstyle="steps-mid", label=name)
        ax.set(xlabel="token of a text that was being written", ylabel="ms since the one before", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
