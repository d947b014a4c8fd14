"""Collectives on four chips in a ring: before and after in one figure, and round by round in a stepper.

Both are read from `tfguide.sharding.ring`. The letter of a piece says which part of an array it is, the small number
the chip that its values came from; a sum has several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures import canvas
from tfguide.figures.steppers import Cell, Frame, Row
from tfguide.figures.style import PALETTE, size, style
from tfguide.sharding import ring

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHIPS = 4
ELEMENTS = 256  # of one piece, where a number is shown
NOTHING = "\u00b7"  # in the place of a part that a chip does not hold

#: What the states of the frames mean.
LEGEND = {"new": "came in this round", "gone": "sent, and not kept"}


_AFTER = 5.6  # where the state afterwards stands, in cells
_PASS_ON = "Each chip sends its neighbour a copy of the piece that came last."
_ADD = "Each chip sends its neighbour a part, and the neighbour adds its own to it."


@dataclass(frozen=True)
class Collective:
    """A collective as the figures show it.

    run: from the arrays of all chips to its rounds; does, ends: what it does, and what is so afterwards, in a few
    words; before, after: the same in sentences; rounds: what each round does.
    """

    name: str
    run: Callable[[list[list[np.ndarray]]], Iterator[ring.Round]]
    does: str
    ends: str
    before: str
    rounds: tuple[str, ...]
    after: str


COLLECTIVES = (
    Collective(
        "All-gather",
        lambda arrays: ring.all_gather([parts[i] for i, parts in enumerate(arrays)]),
        does="copies of a piece go to all",
        ends="all alike",
        before="Each chip has one part of an array.",
        rounds=(_PASS_ON,) * 3,
        after="Every chip has all parts: it holds four times as much as before.",
    ),
    Collective(
        "Reduce-scatter",
        ring.reduce_scatter,
        does="all arrays are added up",
        ends="a part of the sum",
        before="Each chip has a whole array of its own. The sum of the four is wanted.",
        rounds=(_ADD,) * 3,
        after="Every chip has one part of the sum: it holds a quarter of what it held.",
    ),
    Collective(
        "All-reduce",
        ring.all_reduce,
        does="a reduce-scatter, then an all-gather",
        ends="all alike",
        before="Each chip has a whole array of its own. All want the whole sum.",
        rounds=(_ADD,) * 3 + (_PASS_ON,) * 3,
        after="Every chip has the whole sum, and has sent twice as much.",
    ),
    Collective(
        "All-to-all",
        ring.all_to_all,
        does="each piece moves, none is copied",
        ends="a part of every array",
        before="Each chip has a whole array of its own. Chip 0 wants the part A of every array, chip 1 the part B.",
        rounds=(
            "Each chip sends a part to its neighbour.",
            "Each chip sends a part to the chip opposite. In a ring of links it passes over two of them.",
            "Each chip sends a part three places ahead: over three links, or over one the other way round.",
        ),
        after="Every chip has one part of every array: it holds as much as before.",
    ),
)


def rounds_of(collective: Collective) -> list[ring.Round]:
    """The rounds of a collective on arrays of which each part is `ELEMENTS` numbers long."""
    return list(collective.run([[np.full(ELEMENTS, 1.0 * i) for _ in range(CHIPS)] for i in range(CHIPS)]))


def collectives() -> Figure:
    """What four chips hold before and after each collective: a row for each chip, a colour for each part of an array.

    A thick line: the chip has the piece before and after. A dashed line: it goes away. A thin line: it came, or is a
    sum, which is darker.
    """
    with style():
        fig, axes = plt.subplots(len(COLLECTIVES), 1, figsize=size(1.62))
        for ax, collective in zip(axes, COLLECTIVES, strict=True):
            rounds = rounds_of(collective)
            states = rounds[0].held, rounds[-1].held
            for left, state, other in zip((0.0, _AFTER), states, states[::-1], strict=True):
                for chip, pieces in enumerate(state):
                    stays = {name(piece) for piece in other[chip]}
                    for place, piece in zip(_places(pieces), pieces, strict=True):
                        _draw(ax, left + place, chip, piece, name(piece) in stays, is_before=state is states[0])
            for chip in range(CHIPS):
                canvas.text(ax, -0.25, chip + 0.42, f"chip {chip}", ha="right")
            canvas.arrow(ax, (4.2, 1.92), (_AFTER - 0.2, 1.92), width=1.3)
            for left, state, more in ((0.0, states[0], ""), (_AFTER, states[1], f": {collective.ends}")):
                canvas.text(ax, left, -0.1, f"holds {len(state[0])} of {CHIPS}{more}", ha="left", va="bottom")
            ax.set_title(f"{collective.name}: {collective.does}")
            ax.set(xlim=(-1.75, _AFTER + CHIPS + 0.8), ylim=(CHIPS, -0.7))
            ax.axis("off")
    return fig


def frames() -> list[Frame]:
    """All four collectives, one after another: a frame for the state before each, and one for each of its rounds."""
    return [frame for collective in COLLECTIVES for frame in _frames(collective)]


def name(piece: ring.Piece) -> str:
    """The letter of the part, and in small numbers the chips whose values are in it.

    >>> name(ring.Piece(1, frozenset((0, 3)), np.zeros(1)))
    'B\u2080\u208a\u2083'
    """
    return "ABCD"[piece.part] + "\u208a".join(chr(0x2080 + chip) for chip in sorted(piece.origins))


def _places(pieces):
    """The column of each piece: its part, or where all are the same part, the chip that it came from."""
    parts = [piece.part for piece in pieces]
    return parts if len(set(parts)) == len(parts) else [min(piece.origins) for piece in pieces]


def _draw(ax, x, y, piece, stays, is_before):
    colour, is_sum = PALETTE[piece.part], len(piece.origins) > 1
    look = {"opacity": 0.7 if is_sum else 0.3, "linewidth": 2.0 if stays else 1.0, "edge": None if stays else colour}
    canvas.cell(
        ax, x + 0.05, y, 0.9, 0.84, colour, **look, label=f"\u03a3{name(piece)[0]}" if is_sum else name(piece),
        dash=(0, (2, 1.5)) if is_before and not stays else "-",
    )  # fmt: skip


def _frames(collective):
    rounds, done = rounds_of(collective), 0
    for number, one in enumerate(rounds):
        done += ring.sent([one])
        if number:
            says = f"{collective.name}, round {number} of {len(rounds) - 1}. {collective.rounds[number - 1]}"
        else:
            says = f"{collective.name}. {collective.before}"
        if number == len(rounds) - 1:
            says += f" {collective.after}"
        moves = [Cell(f"{move.source} \u2192 {move.target}: {name(move.piece)}") for move in one.moves]
        share = f" = {done // ELEMENTS}/{CHIPS} of {CHIPS * ELEMENTS:,}" if number else ""
        yield Frame(
            says,
            (
                Row("moves", tuple(moves) or (Cell("nothing yet"),)),
                *(Row(f"chip {chip}", _chip_cells(chip, one)) for chip in range(CHIPS)),
                Row("sent by each", (Cell(f"{done:,} elements{share}"),)),
            ),
        )


def _chip_cells(chip, one):
    """What a chip holds after a round and what it no longer holds, in the order of the columns of the figure."""
    came = [move.piece for move in one.moves if move.target == chip]
    kept = {name(piece) for piece in one.held[chip]}
    shown = [
        (piece, "new" if any(p.part == piece.part and p.origins <= piece.origins for p in came) else "")
        for piece in one.held[chip]
    ]
    shown += [(move.piece, "gone") for move in one.moves if move.source == chip and name(move.piece) not in kept]
    shown.sort(key=lambda pair: (pair[0].part, min(pair[0].origins)))
    cells = [Cell(name(piece), state) for piece, state in shown]
    parts = [piece.part for piece, _ in shown]
    if len(set(parts)) < len(parts):  # several of one part, in an all-to-all
        return tuple(cells)
    at = dict(zip(parts, cells, strict=True))
    return tuple(at.get(part, Cell(NOTHING)) for part in range(CHIPS))
