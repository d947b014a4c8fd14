"""The figure of the benchmark page: tokens a second, contestants side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from tfguide.figures.style import PALETTE, ink, size, style


def speeds(groups: Mapping[str, Sequence[tuple[str, float]]], limits: Mapping[str, float]) -> Figure:
    """Horizontal bars of tokens a second, {group: [(contestant, tokens/s), ...]}, and each group's limit as a line."""
    names = list(dict.fromkeys(name for rows in groups.values() for name, _ in rows))
    bars = sum(len(rows) + 1 for rows in groups.values())
    with style():
        fig, ax = plt.subplots(figsize=size(0.05 + 0.037 * bars))
        y, ticks = 0.0, []
        for group, rows in groups.items():
            top = y
            for name, value in rows:
                colour = PALETTE[names.index(name) % len(PALETTE)]
                label = name if not any(text.get_label() == name for text in ax.containers) else None
                ax.barh(y, value, color=colour, height=0.85, label=label)
                ax.annotate(f"{value:.3g}", (value, y), (4, 0), textcoords="offset points", va="center")
                y += 1
            if group in limits:
                ax.plot([limits[group]] * 2, [top - 0.5, y - 0.5], color=ink(), linewidth=1.4, linestyle=(0, (4, 2)))
            ticks.append(((top + y - 1) / 2, group))
            y += 0.8
        ax.set_yticks([at for at, _ in ticks], [group for _, group in ticks])
        ax.invert_yaxis()
        ax.margins(x=0.12)
        ax.set_xlabel("tokens a second; dashed: what the memory allows")
        ax.legend(loc="upper right")  # the widest weights stand at the top, where bars are short
    return fig
