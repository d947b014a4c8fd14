"""The trends of chapter 9 in pictures: what each technique brought, what large models need, what experts predict."""

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
    """What the techniques of chapter 6 brought, each from the file of its section, in the order of the sections.

    folder: `book/appendices/benchmarks`.
    """

    def read(name):
        return json.loads((Path(folder) / name).read_text())["rows"]

    rungs = {(row["name"], row["framework"]): row["seconds"] for row in read("smollm2/waterfall.json")}
    trade = {row["name"]: row for row in read("smollm2/trade.json")}
    heads = {(row["n_kv_heads"], row["prompt"]): row["seconds"] for row in read("zen5/heads_S.json")}
    flash = {(row["name"], row["prompt"]): row["prompt_seconds"] for row in read("zen5/lengths_SmolLM2.json")}
    looked = {
        (row["task"], row["k"]): row["speedup"]
        for row in read("smollm2/speculative.json")
        if row["draft"] == "prompt lookup"
    }
    batches = {
        row["batch"]: row["tokens_per_second"]
        for row in read("zen5/rows_SmolLM2.json")
        if row["name"] == "tfguide" and row["dtype"] == "float32"
    }

    def rung(before, after, framework="torch"):
        return rungs[before, framework] / rungs[after, framework]

    def traded(name):
        loss = trade[name]["perplexity"] / trade["float32"]["perplexity"] - 1
        return trade[name]["speed"], f"perplexity {loss:+.1%}"

    step, tokens = "a step", "the same tokens"
    tiled = flash["llama.cpp", 8000] / flash["llama.cpp, flash", 8000]
    fewer = heads[12, 8000] / heads[4, 8000]
    layers = [trade[name]["config"]["n_layers"] for name in ("fewer layers", "float32")]
    return [
        Technique("6.1", "16 texts at a time", "all tokens", batches[16] / batches[1], tokens, SAME),
        Technique("6.2", "a cache", step, rung("no cache", "a cache"), tokens, SAME),
        Technique("6.3", "4 of 12 key/value heads", "a step after 8000", fewer, "trained so", OTHER),
        Technique("6.4", "attention in tiles", "a prompt of 8000", tiled, tokens, SAME),
        Technique("6.5", "bfloat16", step, *traded("bfloat16"), NEARLY),
        Technique("6.6", "8-bit weights", step, *traded("8 bits"), NEARLY),
        Technique("6.6", "4-bit weights", step, *traded("4 bits, calibrated"), NEARLY),
        Technique("6.7", "{} of {} layers".format(*layers), step, *traded("fewer layers"), OTHER),
        Technique("6.9", "prompt lookup, copying", "32 tokens", looked["copy", 5], tokens, SAME),
        Technique("6.9", "prompt lookup, a story", "32 tokens", looked["story", 5], tokens, SAME),
        Technique("6.10", "compiled, PyTorch", step, rung("a cache", "compiled"), tokens, SAME),
        Technique("6.10", "compiled, TensorFlow", step, rung("a cache", "compiled", "tensorflow"), tokens, SAME),
        Technique("6.13", "kernels", step, rung("compiled", "all threads"), tokens, SAME),
    ]


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
            about = {"textcoords": "offset points", "va": "center", "fontsize": 9}
            ax.annotate(f"{one.faster:.2g}", (max(one.faster, 1), y), (4, 0), **about)
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
                f"{kv_bytes(config, 1, context) / 1e9:.1f} GB", best.chips, f"{best.decode.tokens_per_second:,.0f}",
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
        fig, ax = plt.subplots(figsize=size(0.7))
        for k, (name, points) in enumerate(
            (("learned with 2, read with n", read), ("learned and read with n", learned))
        ):
            look = {"color": PALETTE[k], "linestyle": DASHES[k], "marker": "os"[k]}
            ax.plot(*zip(*sorted(points.items()), strict=True), label=name, **look)
        for k, (name, value) in enumerate(plain.items(), start=2):
            ax.axhline(value, color=PALETTE[k], linestyle=DASHES[k], linewidth=1.4, label=name)
        ax.set(xlabel="n, experts that a token reads", ylabel="perplexity", xticks=sorted(read))
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return fig
