"""The tables that cells of the book compute, as HTML.

The column that matters stands first. A caption is the emphasised paragraph below the cell, as for a figure. On a
telephone the book's script shows a table that is too wide as a card for each row (`book/_static/narrow.js`).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML


@dataclass(frozen=True)
class Cell:
    """A cell that is more than a text: over several columns, in the letters of code, a head, or of two lines.

    below: a second line in smaller letters; columns: how many columns the cell spans.
    """

    text: object
    below: str = ""
    columns: int = 1
    is_code: bool = False
    is_head: bool = False


Row = Sequence[object]  # each a Cell or what str() makes a text of


def table(head: Row, rows: Iterable[Row], *, above: Row = (), numbers: bool = False) -> HTML:
    """A table with one line of heads and a line for each row.

    A cell is a `Cell`, or anything that has a text. Texts are escaped: none is read as HTML. above: the cells of a
    second line of heads over the first one; numbers: whether every column but the first is set to the right.
    Raises ValueError where a row or `above` does not fill the columns of `head`.
    """
    from IPython.display import HTML

    width = sum(_cell(cell).columns for cell in head)
    lines = {"thead": [*([above] if above else []), head], "tbody": list(rows)}
    parts = []
    for part, some in lines.items():
        for cells in some:
            if (got := sum(_cell(cell).columns for cell in cells)) != width:
                raise ValueError(f"a row of {width} columns was expected, got {got}: {tuple(cells)}")
        parts.append(f"<{part}>{''.join(_line(cells, part == 'thead', numbers) for cells in some)}</{part}>")
    return HTML(f'<div class="pst-scrollable-table-container"><table class="table">{"".join(parts)}</table></div>')


def grouped_table(head: Row, rows: Iterable[tuple[str, Row]]) -> HTML:
    """A table of (group, cells): the name of a group over all columns, and below it the rows that follow with it."""
    lines: list[Row] = []
    last = None
    for group, cells in rows:
        if group != last:
            lines.append((Cell(group, columns=len(head), is_head=True),))
        lines.append(cells)
        last = group
    return table(head, lines)


def heading(words: str) -> HTML:
    """A bold line over one of several tables that a cell shows."""
    from IPython.display import HTML

    return HTML(f'<p style="margin-top: 1.5rem"><strong>{html.escape(words, quote=False)}</strong></p>')


def _cell(cell):
    return cell if isinstance(cell, Cell) else Cell(cell)


def _line(cells, in_head, numbers):
    return "<tr>" + "".join(_written(_cell(cell), in_head, numbers and i > 0) for i, cell in enumerate(cells)) + "</tr>"


def _written(cell, in_head, to_the_right):
    tag = "th" if in_head or cell.is_head else "td"
    words = html.escape(str(cell.text), quote=False)
    if cell.is_code:
        words = f"<code>{words}</code>"
    if cell.below:
        words += f"<br><small>{html.escape(cell.below, quote=False)}</small>"
    span = f' colspan="{cell.columns}"' if cell.columns > 1 else ""
    side = ' style="text-align: right"' if to_the_right else ""
    return f"<{tag}{span}{side}>{words}</{tag}>"
