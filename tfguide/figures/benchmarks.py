"""The figure of the benchmark page: tokens a second, contestants side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from tfguide.figures.style import PALETTE, WIDTH, ink, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = 0.22  # inches of a bar


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
                colour = PALETTE[names.index(name) % len(PALETTE)]
                ax.barh(y, value, color=colour, height=0.8, label=None if name in shown else name)
                shown.add(name)
                ax.plot([limit] * 2, [y - 0.5, y + 0.5], color=ink(), linewidth=1.4, linestyle=(0, (2, 1)))
                text = {"textcoords": "offset points", "va": "center", "fontsize": 9}
                there_is_room = limit - value > 0.15 * longest
                ax.annotate(f"{value:.3g}", (value if there_is_room else max(value, limit), y), (4, 0), **text)
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
