"""Steppers: a procedure of the book, one step at a time, forwards and backwards.

A stepper is a list of frames, and a frame is a sentence with rows of cells. The page carries all frames as JSON and the
first one as HTML, so that a reader without scripts, and a printer, have a picture. `book/_static/steppers.js` shows the
others. What a frame says is computed by the package: a stepper has no numbers of its own.

    frames = [Frame("The prompt is read.", (Row("keys", cells("k0", "k1", state="new")),)), ...]
    stepper("The cache grows", frames, legend={"new": "computed in this step"})
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML

#: What a cell can be. Each has a look of its own in `book/_static/steppers.css`, in colour and in line.
STATES = ("", "new", "read", "kept", "chosen", "accepted", "rejected", "gone")


@dataclass(frozen=True)
class Cell:
    """A short text in a box; `state` is one of `STATES`."""

    text: str
    state: str = ""


@dataclass(frozen=True)
class Row:
    """A name and the cells behind it."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Frame:
    """One step: a sentence or two about it, and what there is to see."""

    says: str
    rows: tuple[Row, ...]


def cells(*texts: object, state: str = "") -> tuple[Cell, ...]:
    """A cell for each text, all in one state."""
    return tuple(Cell(str(text), state) for text in texts)


def stepper(title: str, frames: Sequence[Frame], *, legend: Mapping[str, str], drawing: str = "") -> HTML:
    """The frames as a box with buttons, in a page or in a notebook.

    title: what the box is called, for those who hear the page; legend: what each state that occurs means; drawing: an
    SVG of `style.to_svg` over the frames, where an artist with the gid "step-k" is seen in frame k alone.
    Raises ValueError where there are fewer than two frames, where a state is none of `STATES`, and where the legend
    does not explain the states that occur, no more and no less.
    """
    from IPython.display import HTML

    if len(frames) < 2:
        raise ValueError(f"a stepper needs two frames or more, got {len(frames)}")
    states = {cell.state for frame in frames for row in frame.rows for cell in row.cells} - {""}
    if unknown := sorted(states - set(STATES)):
        raise ValueError(f"expected states among {', '.join(STATES[1:])}, got {', '.join(unknown)}")
    if states != set(legend):
        raise ValueError(f"the legend must explain {sorted(states)}, it explains {sorted(legend)}")
    # "</" would end the script that holds the data.
    data = json.dumps([asdict(frame) for frame in frames], ensure_ascii=False).replace("</", "<\\/")
    keys = "".join(f'<span class="stepper-cell {state}">{_text(words)}</span>' for state, words in legend.items())
    return HTML(
        f'<div class="stepper" role="group" aria-label="{html.escape(title, quote=True)}">'
        f'{f"""<div class="stepper-drawing">{_first(drawing)}</div>""" if drawing else ""}'
        f'<div class="stepper-frame" aria-live="polite">{frame_html(frames[0])}</div>'
        f'<div class="stepper-legend">{keys}</div>'
        f'<script type="application/json">{data}</script></div>'
    )


def frame_html(frame: Frame) -> str:
    """What a frame shows; the script writes the same, and a test compares them."""
    lines = "".join(
        f'<div class="stepper-row"><span class="stepper-name">{_text(row.name)}</span>'
        f'<span class="stepper-cells">{"".join(map(_cell, row.cells))}</span></div>'
        for row in frame.rows
    )
    return f'<p class="stepper-says">{_text(frame.says)}</p>{lines}'


def _first(drawing):
    """The drawing with what belongs to later frames hidden; `style` has put a prefix before each identifier."""
    return re.sub(r'(<g id="[^"]*\bstep-)([1-9]\d*")', r'\1\2 visibility="hidden"', drawing)


def _cell(cell):
    return f'<span class="{f"stepper-cell {cell.state}".strip()}">{_text(cell.text)}</span>'


def _text(words: str) -> str:
    return html.escape(words, quote=False)
