"""Prefill and decode: which positions each step computes, and what batches do to latency and throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, StrMethodFormatter

from tfguide.figures import canvas, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def answer_by_token(pieces: Sequence[str], milliseconds: Sequence[float], n_prompt: int) -> Figure:
    """The time of each token of one answer as a bar; the first reads the `n_prompt` tokens of the prompt."""
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 0.4 * len(pieces) + 1.1))
        for row, ms in enumerate(milliseconds):
            colour = style.GOLD if row else style.BLUE
            canvas.cell(ax, 0, row - 0.36, ms, 0.72, colour, opacity=0.45, edge=colour, linewidth=1.0)
            ax.text(ms + 0.012 * max(milliseconds), row, f"{ms:.0f}", va="center", fontsize=10)
        canvas.text(ax, milliseconds[0] / 2, 0, f"reads {n_prompt} tokens")
        ax.set_yticks(range(len(pieces)), [piece.strip() for piece in pieces], fontsize=11)
        ax.set(xlim=(0, 1.1 * max(milliseconds)), ylim=(len(pieces) - 0.5, -0.6), xlabel="milliseconds")
        ax.tick_params(axis="y", length=0)
    return fig


def work_by_step(n_prompt: int = 6, n_new: int = 5) -> Figure:
    """The positions that each step of generation computes: all of them, or the new ones beside a cache."""
    width = n_prompt + n_new - 1
    with style.style():
        fig, axes = plt.subplots(2, 1, figsize=(style.WIDTH, 5.9))
        for ax, cached in zip(axes, (False, True), strict=True):
            computed = 0
            for step in range(n_new):
                for position in range(n_prompt + step):
                    new = not cached or step == 0 or position == n_prompt + step - 1
                    computed += new
                    colour = style.BLUE if new else style.GOLD
                    look = {"opacity": 0.8 if new else 0.22, "edge": colour, "linewidth": 1.0}
                    canvas.cell(ax, position, step, 0.9, 0.86, colour, **look)
            words = ["prefill", *["decode"] * (n_new - 1)] if cached else ["read all"] * n_new
            labels = [f"{word}, token {step + 1}" for step, word in enumerate(words)]
            ax.set_yticks([step + 0.43 for step in range(n_new)], labels, fontsize=10)
            ax.set_xticks([n_prompt / 2, n_prompt + (n_new - 1) / 2], ["prompt", "new tokens"], fontsize=10)
            ax.axvline(n_prompt - 0.05, color=style.ink(), linewidth=1.0, linestyle="-")
            ax.set(xlim=(-0.1, width), ylim=(n_new, -0.15))
            style.bare(ax)
            name = "With a KV cache" if cached else "Without a cache"
            ax.set_title(f"{name}: {computed} positions computed")
        handles = [
            Patch(facecolor=to_rgba(style.BLUE, 0.8), edgecolor=style.BLUE, label="computed in this step"),
            Patch(facecolor=to_rgba(style.GOLD, 0.22), edgecolor=style.GOLD, label="read from the cache"),
        ]
        fig.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=10)
    return fig


def request_timeline(time_to_first: float = 3.0, time_per_output: float = 1.0, n_new: int = 6) -> Figure:
    """One request on a line of time: the wait for the first token, then a token at every step."""
    with style.style():
        fig, ax = plt.subplots(figsize=(style.WIDTH, 2.25))
        end = time_to_first + (n_new - 1) * time_per_output
        look = {"edge": style.BLUE, "linewidth": 1.0, "label": "prefill", "size": 11}
        canvas.cell(ax, 0, 0, time_to_first, 0.6, style.BLUE, opacity=0.35, **look)
        look = {"edge": style.GOLD, "linewidth": 1.0, "label": "decode", "size": 10}
        for step in range(n_new):
            x = time_to_first + step * time_per_output
            if step < n_new - 1:
                canvas.cell(ax, x, 0, time_per_output, 0.6, style.GOLD, opacity=0.3, **look)
            canvas.arrow(ax, (x, 0.6), (x, 1.0), width=1.3)
            canvas.text(ax, x, 1.12, str(step + 1))
        canvas.text(ax, end, 1.42, "tokens out", ha="right")
        for left, right, y, label in (
            (0, time_to_first, -0.3, "time to first token"),
            (time_to_first + time_per_output, time_to_first + 2 * time_per_output, -0.3, "time per output token"),
            (0, end, -0.95, "latency of the request"),
        ):
            canvas.arrow(ax, (left, y), (right, y), width=1.1, head="<|-|>")
            canvas.text(ax, (left + right) / 2, y - 0.27, label)
        ax.set(xlim=(-0.1, end + 0.25), ylim=(-1.45, 1.65))
        ax.axis("off")
    return fig


def latency_and_throughput(seconds: Mapping[str, Mapping[int, float]], ylabel: str = "time of a step, ms") -> Figure:
    """The time of a decode step and the tokens per second, against the batch.

    seconds: label to a mapping from each batch to the time of its step.
    """
    batches = sorted({batch for times in seconds.values() for batch in times})
    with style.style():
        fig, (above, below) = plt.subplots(2, 1, figsize=(style.WIDTH, 5.2), sharex=True)
        for (label, times), dash in zip(seconds.items(), style.DASHES, strict=False):
            look = dict(label=label, linestyle=dash, marker="o" if len(batches) < 10 else None, markersize=4)
            above.plot(list(times), [1e3 * t for t in times.values()], **look)
            below.plot(list(times), [batch / t for batch, t in times.items()], **look)
        for ax in (above, below):
            ax.set_xscale("log", base=2)
            _log_scale(ax)
            ax.grid(True)
        ticks = batches if len(batches) < 10 else [2**i for i in range(0, 11, 2) if 2**i <= batches[-1]]
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        for ax in (above, below):
            ax.minorticks_off()
        above.set_ylabel(ylabel)
        below.set_ylabel("tokens per second")
        below.set_xlabel("batch B")
        if len(seconds) > 1:
            above.legend(fontsize=10)
    return fig


def against_length(
    lengths: Sequence[int], values: Mapping[str, Sequence[float]], ylabel: str, log: bool = False
) -> Figure:
    """One line for each label, against the length of the sequence.

    values: label to one value for each length; `log` makes the vertical axis logarithmic.
    """
    with style.style():
        fig, ax = plt.subplots(figsize=style.size(0.62))
        for (label, line), dash in zip(values.items(), style.DASHES, strict=False):
            ax.plot(lengths, line, label=label, marker="o", markersize=4, linestyle=dash)
        ax.set_xscale("log", base=2)
        if log:
            _log_scale(ax)
        else:
            ax.set_ylim(bottom=0)
        ax.set_xticks(lengths, [f"{length:,}" for length in lengths])
        ax.minorticks_off()
        ax.grid(True)
        ax.set_xlabel("tokens in the sequence")
        ax.set_ylabel(ylabel)
        if len(values) > 1:
            ax.legend(fontsize=10)
    return fig


def _log_scale(ax):
    """A logarithmic vertical axis with plain numbers at 1, 2 and 5 times a power of ten."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
