"""The tables of the benchmark page for one model: what its weights are worth, and how soon it is ready.

A result is what `tfguide bench quantization --json` and `tfguide bench load --json` write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfguide.figures.benchmarks import processor
from tfguide.figures.tables import Cell, grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML

_OURS = {"torch": "tfguide, PyTorch", "tensorflow": "tfguide, TensorFlow", "none": "tfguide, no framework"}


def quantization_table(result: Mapping[str, Any]) -> HTML:
    """Perplexity, how far it lies above that of float32, bits of a weight, and speed: a group for each program.

    A contestant that failed has its message instead of numbers.
    """
    exact = result["rows"][0]["perplexity"]
    rows = [(_program(row), _quality(row, exact)) for row in result["rows"]]
    return grouped_table(("perplexity", "above float32", "bits", "tokens/s", "weights"), rows)


def vectors_table(result: Mapping[str, Any]) -> HTML:
    """The cosine with the vectors of float32 weights, its least, and the bits of a weight."""
    head = ("cosine", "least", "bits", "MB in all", "weights")
    return table(head, [
        (f"{row['cosine']:.4f}", f"{row['least_cosine']:.4f}", f"{row['bits']:.2f}", f"{row['n_bytes'] / 1e6:.0f}",
         row["weights"])
        for row in result["rows"]
    ])  # fmt: skip


def load_table(result: Mapping[str, Any]) -> HTML:
    """Seconds to the first token and of prompts, and the most memory: a line for each contestant."""
    lengths = list(next((row["prompts"] for row in result["rows"] if "prompts" in row), {}))
    head = ("first token, s", "memory, MB", *(f"{length} tokens, s" for length in lengths), "")
    return table(head, [_ready(row, lengths) for row in result["rows"]])


def about(result: Mapping[str, Any]) -> str:
    """The machine and the model of a result, in words."""
    return f"{result['model']} on {processor(result['machine'])}"


def _program(row):
    return _OURS[row["framework"]] if row["name"] == "tfguide" else row["name"]


def _quality(row, exact):
    if "error" in row:
        return Cell(row["error"], columns=4), row["weights"]
    speed = f"{row['tokens_per_second']:.0f}" if "tokens_per_second" in row else ""
    above = row["perplexity"] / exact - 1
    held = Cell(row["weights"], below=f"{row['n_bytes'] / 1e6:,.0f} MB in all")
    return f"{row['perplexity']:.2f}", f"{above:+.2%}".replace("-", "\u2212"), f"{row['bits']:.2f}", speed, held


def _ready(row, lengths):
    if "error" in row:
        return Cell(row["error"], columns=2 + len(lengths)), _program(row)
    parts = f"imports {row['imported']:.2f}, loads {row['loaded'] - row['imported']:.2f}"
    first = row.get("command", row["first"])
    peak = f"{row['peak_bytes'] / 1e6:,.0f}" if "peak_bytes" in row else ""
    prompts = (f"{row['prompts'][length]:.3f}" for length in lengths)
    return Cell(f"{first:.2f}", below=parts), peak, *prompts, _program(row)
