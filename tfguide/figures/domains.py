"""Figures of chapter 9: images in patches and what attention does over them, sounds and their spectrogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from tfguide.figures.style import BLUE, GOLD, PALETTE, RED, WIDTH, bare, heat_map, ink, size, style
from tfguide.figures.tables import table
from tfguide.tasks import tones

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow"}


def cut_image(pixels: np.ndarray, patches: np.ndarray) -> Figure:
    """An image (height, width) with the edges of its patches, and below it the patches (T, p * p) in their order."""
    T, p = len(patches), round(patches.shape[1] ** 0.5)
    columns = pixels.shape[1] // p
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(0.86), height_ratios=(2.2, 1))
        _grey(axes[0], pixels)
        axes[0].set_zorder(1)  # drawn last: its red numbers stand on the image, not on the page
        for edge in range(0, pixels.shape[0] + 1, p):
            axes[0].axhline(edge - 0.5, color=GOLD, linewidth=1, linestyle="-")
        for edge in range(0, pixels.shape[1] + 1, p):
            axes[0].axvline(edge - 0.5, color=GOLD, linewidth=1, linestyle="-")
        for t in range(T):
            down, right = divmod(t, columns)
            axes[0].text(right * p + (p - 1) / 2, down * p + (p - 1) / 2, t, color=RED, ha="center", va="center")
        half = -(-T // 2)
        strip = np.full((2 * p + 1, half * (p + 1) - 1), np.nan)
        for t, patch in enumerate(patches):
            line, at = divmod(t, half)
            strip[line * (p + 1) : line * (p + 1) + p, at * (p + 1) : at * (p + 1) + p] = patch.reshape(p, p)
            axes[1].text(at * (p + 1) + (p - 1) / 2, line * (p + 1) + p - 0.3, t, ha="center", va="top", fontsize=8)
        _grey(axes[1], strip)
        axes[0].set_title(f"{pixels.shape[0]} x {pixels.shape[1]} pixels")
        axes[1].set_title(f"T = {T} patches, each a vector of {p * p} numbers")
    return fig


def looks(pixels: np.ndarray, maps: Sequence[tuple[str, np.ndarray]], query: int) -> Figure:
    """An image (height, width), and over it where one patch looks: (rows, columns) weights for each title.

    The patch that looks is framed. Weights of all maps share one scale, from 0.
    """
    most = max(float(weights.max()) for _, weights in maps)
    lines = -(-(len(maps) + 1) // 3)
    with style():
        fig, axes = plt.subplots(lines, 3, figsize=size(0.36 * lines + 0.14), squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        axes[0, 0].axis("on")
        _grey(axes[0, 0], pixels)
        axes[0, 0].set_title("the image", fontsize=10)
        for ax, (title, weights) in zip(axes.flat[1:], maps, strict=False):
            ax.axis("on")
            image = heat_map(ax, weights, vmin=0, vmax=most)
            ax.set_aspect("equal")
            ax.set(xticks=[], yticks=[])
            ax.set_title(title, fontsize=10)
        p = pixels.shape[0] // maps[0][1].shape[0]
        down, right = divmod(query, maps[0][1].shape[1])
        corner = (right * p - 0.5, down * p - 0.5)
        axes[0, 0].add_patch(plt.Rectangle(corner, p, p, fill=False, edgecolor=RED, linewidth=2))
        for ax, _ in zip(axes.flat[1:], maps, strict=False):
            ax.add_patch(plt.Rectangle((right - 0.5, down - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2))
        bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("attention weight")
        bar.outline.set_visible(False)
    return fig


def gallery(pixels: np.ndarray, titles: Sequence[str], columns: int = 4) -> Figure:
    """Images (N, height, width), each with its title."""
    lines = -(-len(titles) // columns)
    with style():
        fig, axes = plt.subplots(lines, columns, figsize=size(0.32 * lines), squeeze=False)
        for ax in axes.flat[len(titles) :]:
            ax.set_visible(False)
        for ax, image, title in zip(axes.flat, pixels, titles, strict=False):
            _grey(ax, image)
            ax.set_title(title, fontsize=9)
    return fig


def sound(recording: tones.Recording) -> Figure:
    """A recording: its waveform, and its spectrogram with the edges of the patches and the digits above them."""
    spectrum = tones.spectrogram(recording.samples)
    seconds = len(recording.samples) / tones.RATE
    first, step = tones.WINDOW / 2 / tones.RATE, tones.HOP / tones.RATE  # of the middles of the frames
    with style():
        fig, axes = plt.subplots(2, 1, figsize=size(0.95), height_ratios=(1, 2), sharex=True)
        pieces = recording.samples[: len(recording.samples) // 16 * 16].reshape(-1, 16)  # as fine as a line is wide
        at = np.arange(len(pieces)) * 16 / tones.RATE
        axes[0].fill_between(at, pieces.min(1), pieces.max(1), color=BLUE, linewidth=0)
        axes[0].set_ylabel("amplitude")
        axes[0].set_title("the waveform")
        edges = (first - step / 2, first + (len(spectrum) - 0.5) * step, 0, tones.BANDS * tones.RATE / tones.WINDOW)
        axes[1].imshow(spectrum.T, origin="lower", aspect="auto", extent=edges, interpolation="none")
        for t in range(len(spectrum) // tones.FRAMES + 1):
            axes[1].axvline(edges[0] + t * tones.PATCH_SECONDS, color="white", linewidth=0.4, alpha=0.6, linestyle="-")
        for digit, middle in places(recording):
            axes[0].text(middle, 1.02, digit, ha="center", va="bottom", color=ink(), fontweight="bold")
        axes[0].set_ylim(-1, 1.35)
        axes[1].set_xlim(0, seconds)
        axes[1].set_xlabel("seconds")
        axes[1].set_ylabel("Hz")
        axes[1].set_title("its spectrogram, cut into patches")
    return fig


def places(recording: tones.Recording) -> list[tuple[int, float]]:
    """Each digit of a recording, and the second in which half of it has sounded."""
    starts = np.flatnonzero(np.diff(recording.sounds, prepend=tones.SILENCE))
    pairs = zip(starts, [*starts[1:], len(recording.sounds)], strict=True)
    return [
        (int(recording.sounds[a]), (a + b) / 2 / tones.RATE) for a, b in pairs if recording.sounds[a] != tones.SILENCE
    ]


def beliefs(panels: Mapping[str, np.ndarray], truth: np.ndarray) -> Figure:
    """What models believe sounds in each patch: probabilities (T, labels) by title; dots mark the truth (T,)."""
    with style():
        fig, axes = plt.subplots(len(panels), 1, figsize=size(0.5 * len(panels) + 0.12), sharex=True, squeeze=False)
        for ax, (title, probabilities) in zip(axes.flat, panels.items(), strict=True):
            image = heat_map(ax, probabilities.T, vmin=0, vmax=1)
            ax.plot(range(len(truth)), truth, "o", markersize=3, color=RED, linestyle="none")
            ax.set_yticks(range(tones.SILENCE + 1), [*range(tones.SILENCE), "silence"], fontsize=8)
            ax.set_title(title)
        axes[-1, 0].set_xlabel("patch")
        bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
        bar.set_label("probability")
        bar.outline.set_visible(False)
    return fig


def by_noise(rows: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    """A metric by the noise of the recordings, a line for each model: rows with "model", "noise" and "scores"."""
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 2.9))
        for name in dict.fromkeys(row["model"] for row in rows):
            some = [row for row in rows if row["model"] == name]
            ax.plot([row["noise"] for row in some], [row["scores"][metric] for row in some], marker="o", label=name)
        ax.set_xlabel("standard deviation of the noise")
        ax.set_ylabel(metric)
        ax.set_ylim(bottom=0)
        ax.legend()
    return fig


def trained_table(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> HTML:
    """Models of `tfguide.bench.domains`: the metrics of each, then what was changed, the framework, what it took."""
    head = [*metrics, "model", "framework", "tokens", "parameters"]
    return table(
        head,
        [
            (
                *(f"{row['scores'][metric]:.1%}" for metric in metrics), row["about"],
                FRAMEWORKS.get(row["framework"], row["framework"]), row["tokens"] or "-",
                f"{row['parameters']:,}" if row["parameters"] else "-",
            )
            for row in rows
        ],
    )  # fmt: skip


def tokens_by_patch(sizes: Sequence[int], sides: Sequence[int], flops: Mapping[tuple[int, int], float]) -> Figure:
    """The operations to read an image, by its side in pixels, a line for each size of its patches; both axes in powers.

    flops: by (size of a patch, side).
    """
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 3.0))
        for p, colour in zip(sizes, PALETTE, strict=False):
            ax.plot(sides, [flops[p, side] / 1e9 for side in sides], marker="o", color=colour, label=f"p = {p}")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(sides, sides)
        ax.minorticks_off()
        ax.set_xlabel("side of the image in pixels")
        ax.set_ylabel("GFLOP for an image")
        ax.legend()
    return fig


def _grey(ax, pixels):
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="none")
    ax.set(xticks=[], yticks=[])
    bare(ax)
