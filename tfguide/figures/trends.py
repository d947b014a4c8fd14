"""Chapter 9 in pictures: what each technique of the book brought, experts and what they predict, recall at a distance."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt

from tfguide.config import ModelConfig
from tfguide.cost.memory import kv_bytes, weight_bytes
from tfguide.cost.parameters import active_parameters, parameters
from tfguide.cost.plan import plan
from tfguide.figures.style import DASHES, PALETTE, WIDTH, ink, size, style
from tfguide.figures.tables import table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

SAME, NEARLY, OTHER = "the same", "rounded", "another model"  # what a technique does to the result


@dataclass(frozen=True)
class Technique:
    """A technique as it was measured: its section, how many times as fast it makes what, and what the result becomes.

    quality: the result in words; kind: one of SAME, NEARLY and OTHER.
    """

    section: str
    name: str
    what: str
    faster: float
    quality: str
    kind: str


def techniques(folder: str | os.PathLike) -> list[Technique]:
    """What the techniques of chapter 6 brought, each from the file that its section shows, in the order of the sections.

    folder: `book/appendices/benchmarks`.
    """
    read = lambda name: json.loads((Path(folder) / name).read_text())
    rungs = {(row["name"], row["framework"]): row["seconds"] for row in read("smollm2/waterfall.json")["rows"]}
    trade = {row["name"]: row for row in read("smollm2/trade.json")["rows"]}
    heads = {(row["n_kv_heads"], row["prompt"]): row["seconds"] for row in read("zen5/heads_S.json")["rows"]}
    flash = {(row["name"], row["prompt"]): row["prompt_seconds"] for row in read("zen5/lengths_SmolLM2.json")["rows"]}
    looked = {(row["task"], row["k"]): row for row in read("smollm2/speculative.json")["rows"]
              if row["draft"] == "prompt lookup"}  # fmt: skip
    rows = {row["batch"]: row["tokens_per_second"] for row in read("zen5/rows_SmolLM2.json")["rows"]
            if row["name"] == "tfguide" and row["dtype"] == "float32"}  # fmt: skip
    length, batch = 8000, 16
    plain, tiled = flash["llama.cpp", length], flash["llama.cpp, flash", length]
    step = "a step"
    found = [
        Technique("6.2", "a cache", step, rungs["no cache", "torch"] / rungs["a cache", "torch"], "the same tokens", SAME),
        Technique("6.3", "4 key/value heads of 12", f"a step after {length:,} tokens", heads[12, length] / heads[4, length],
                  "trained so", OTHER),
        Technique("6.4", "attention in tiles", f"a prompt of {length:,}", plain / tiled, "the same tokens", SAME),
        Technique("6.5", "bfloat16", step, *_traded(trade, "bfloat16"), NEARLY),
        Technique("6.6", "weights of 8 bits", step, *_traded(trade, "8 bits"), NEARLY),
        Technique("6.6", "4 bits, calibrated", step, *_traded(trade, "4 bits, calibrated"), NEARLY),
        Technique("6.7", "26 of 30 layers", step, *_traded(trade, "fewer layers"), OTHER),
        Technique("6.9", "prompt lookup, copying", "32 tokens", looked["copy", 5]["speedup"], "the same tokens", SAME),
        Technique("6.9", "prompt lookup, a story", "32 tokens", looked["story", 5]["speedup"], "the same tokens", SAME),
        Technique("6.10", "compiled, PyTorch", step, rungs["a cache", "torch"] / rungs["compiled", "torch"],
                  "the same tokens", SAME),
        Technique("6.10", "compiled, TensorFlow", step, rungs["a cache", "tensorflow"] / rungs["compiled", "tensorflow"],
                  "the same tokens", SAME),
        Technique("6.13", "C++ kernels for compiled", step, rungs["compiled", "torch"] / rungs["all threads", "torch"],
                  "the same tokens", SAME),
        Technique("6.1", f"{batch} texts at a time", "all tokens", rows[batch] / rows[1], "the same tokens", SAME),
    ]  # fmt: skip
    return sorted(found, key=lambda one: [int(part) for part in one.section.split(".")])


def _traded(trade, name):
    """How many times as fast a variant of SmolLM2 is as float32, and its perplexity beside that of float32."""
    row, exact = trade[name], trade["float32"]
    return row["seconds"] and exact["seconds"] / row[
        "seconds"
    ], f"perplexity {row['perplexity'] / exact['perplexity'] - 1:+.1%}"


def techniques_table(found: Sequence[Technique]) -> HTML:
    """The techniques, a line for each."""
    return table(
        ("technique", "times as fast", "of what", "the result", "section"),
        [(one.name, f"{one.faster:.2f}\u00a0x", one.what, one.quality, one.section) for one in found],
    )


def techniques_bars(found: Sequence[Technique]) -> Figure:
    """How many times as fast on a logarithmic scale, coloured by what the result becomes."""
    kinds = (SAME, NEARLY, OTHER)
    with style():
        fig, ax = plt.subplots(figsize=(WIDTH, 0.3 * len(found) + 1.3))
        for y, one in enumerate(found):
            colour = PALETTE[kinds.index(one.kind)]
            ax.barh(y, one.faster - 1, left=1, color=colour, height=0.7)
            place, side = (one.faster, "left") if one.faster >= 1 else (1.0, "left")
            ax.annotate(
                f"{one.faster:.2g}", (place, y), (4, 0), textcoords="offset points", va="center", ha=side, fontsize=9
            )
        for kind, colour in zip(kinds, PALETTE, strict=False):
            ax.barh(0, 0, left=1, color=colour, label=kind)
        ax.set_yticks(range(len(found)), [f"{one.name} ({one.section})" for one in found])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(found) - 0.4, -0.6)
        most = max(one.faster for one in found)
        ax.set(xscale="log", xlim=(0.7, 1.6 * most), xlabel="times as fast")
        ticks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= 1.6 * most]
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.minorticks_off()
        ax.axvline(1, color=ink(), linewidth=0.8)
        fig.legend(loc="outside lower center", ncols=3, title="the result")
    return fig


def large_models(names: Sequence[str], chip: str, weights: str, context: int, batch: int) -> HTML:
    """What models need: parameters, memory of weights and of one text's cache, chips, and the bound of tokens a second.

    chips: of the plan that costs the least for `batch` texts, and its tokens a second at most for all of them.
    """
    lines = []
    for name in names:
        config = ModelConfig.from_preset(name)
        best = plan(config, chip, batch, context, weights=weights)
        lines.append(
            (
                name, f"{parameters(config) / 1e9:.0f}", f"{active_parameters(config) / 1e9:.0f}",
                f"{weight_bytes(config, 'bfloat16') / 1e9:,.0f} GB", f"{weight_bytes(config, weights) / 1e9:,.0f} GB",
                f"{kv_bytes(config, 1, context) / 1e9:.1f} GB", best.step.chips, f"{batch / best.step.serial_s:,.0f}",
            )
        )  # fmt: skip
    head = ("model", "billion weights", "of a token", "bfloat16", weights, "cache", "chips", "tokens/s")
    return table(head, lines, numbers=True)


def mixtures(result: Mapping[str, Any]) -> Figure:
    """Perplexity by the experts that a token reads: as learned, and read otherwise; the ordinary networks are lines.

    result: what `python -m tfguide.bench.mixtures --json` wrote.
    """
    learned, plain, read = {}, {}, {}
    for row in result["rows"]:
        experts = row["config"]["experts"]
        if experts is None:
            plain[row["name"]] = row["perplexity"]
            continue
        learned[experts["per_token"]] = row["perplexity"]
        if experts["per_token"] == 2:
            read = {int(n): value for n, value in row["read"].items()}
    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        ax.plot(
            *zip(*sorted(read.items()), strict=True),
            "o-",
            color=PALETTE[0],
            label="learned with 2, read with more or fewer",
        )
        ax.plot(
            *zip(*sorted(learned.items()), strict=True), "s--", color=PALETTE[1], label="learned and read with as many"
        )
        for colour, dash, (name, value) in zip(PALETTE[2:], DASHES[1:], plain.items(), strict=False):
            ax.axhline(value, color=colour, linestyle=dash, linewidth=1.2, label=name)
        ax.set(xlabel="experts that a token reads", ylabel="perplexity", xticks=sorted(read))
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return fig
