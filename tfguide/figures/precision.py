"""Section 6.5: the number formats, what they cannot hold, and what 16 bits change, save and take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfguide.bench.models import bytes_read
from tfguide.config import ModelConfig
from tfguide.figures.benchmarks import TYPES, processor
from tfguide.figures.canvas import canvas, cell, text
from tfguide.figures.style import BLUE, DASHES, GOLD, PALETTE, TEAL, WIDTH, ink, size, style
from tfguide.figures.tables import grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: one bit of sign, then `exponent` and `fraction` bits.

    special: the codes with the largest exponent that are no numbers: "all" of them (IEEE 754), "one" (NaN alone), or
    "none".
    """

    name: str
    exponent: int
    fraction: int
    special: str = "all"

    @property
    def bias(self) -> int:
        """What is taken off the exponent's bits."""
        return 2 ** (self.exponent - 1) - 1

    @property
    def largest(self) -> float:
        """The largest finite number."""
        top = self.bias if self.special == "all" else self.bias + 1
        lost = 2 if self.special == "one" else 1  # the last code of the last exponent is NaN
        return (2 - lost * 2.0**-self.fraction) * 2.0**top

    @property
    def least_normal(self) -> float:
        """The smallest number with all of its precision."""
        return 2.0 ** (1 - self.bias)

    @property
    def least(self) -> float:
        """The smallest number above 0."""
        return self.least_normal * 2.0**-self.fraction

    @property
    def roundoff(self) -> float:
        """The largest relative error of rounding a number in the normal range: u."""
        return 2.0 ** -(self.fraction + 1)


#: tf32 lies in 32 bits and has no type of its own; e2m1 is the element of mxfp4, 32 of which share a scale of 8 bits.
FORMATS = (
    Format("float32", 8, 23), Format("tf32", 8, 10), Format("bfloat16", 8, 7), Format("float16", 5, 10),
    Format("float8 e5m2", 5, 2), Format("float8 e4m3", 4, 3, "one"), Format("float4 e2m1", 2, 1, "none"),
)  # fmt: skip


def bits() -> Figure:
    """The bits of each of FORMATS: sign, exponent, fraction."""
    width, left, step = 0.122, 1.16, 0.34
    with style():
        ax = canvas(WIDTH, step * len(FORMATS) + 0.34)
        for k, one in enumerate(FORMATS):
            y = 0.08 + k * step
            text(ax, left - 0.1, y + 0.11, one.name, ha="right", size=9.5)
            colours = [GOLD] + [BLUE] * one.exponent + [TEAL] * one.fraction
            for i, colour in enumerate(colours):
                cell(ax, left + i * width, y, width, 0.22, colour, opacity=0.55, linewidth=0.6)
        y = 0.1 + len(FORMATS) * step
        for x, colour, words in (
            (left, GOLD, "sign"),
            (left + 0.75, BLUE, "exponent"),
            (left + 1.85, TEAL, "fraction"),
        ):
            cell(ax, x, y, width, 0.16, colour, opacity=0.55, linewidth=0.6)
            text(ax, x + width + 0.07, y + 0.08, words, ha="left", size=9)
    return ax.figure


def formats_table() -> HTML:
    """The largest number of each of FORMATS, the largest relative error of a rounding, and the smallest numbers."""
    rows = [
        (one.name, _short(one.largest), f"2^\u2212{one.fraction + 1}", _short(one.least_normal), _short(one.least),
         1 + one.exponent + one.fraction)
        for one in FORMATS
    ]  # fmt: skip
    return table(("type", "largest", "u", "least normal", "least", "bits"), rows)


def rounding_error(one: Format, x: np.ndarray) -> np.ndarray:
    """The largest relative error of rounding numbers near x to a format; infinity where they overflow."""
    exponent = np.floor(np.log2(np.asarray(x, float)))
    exponent = np.maximum(exponent, 1 - one.bias)
    spacing = 2.0 ** (exponent - one.fraction)
    return np.where(x > one.largest, np.inf, np.minimum(spacing / 2 / x, 1.0))


def errors(names: Sequence[str] = ("bfloat16", "float16", "float8 e5m2", "float8 e4m3")) -> Figure:
    """The largest relative rounding error by the size of the number."""
    import matplotlib.pyplot as plt

    x = 2.0 ** np.arange(-32, 19)
    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        for k, one in enumerate(one for one in FORMATS if one.name in names):
            error = rounding_error(one, x)
            held = np.isfinite(error)
            ax.plot(x[held], error[held], label=one.name, color=PALETTE[k], linestyle=DASHES[k])
            if not held.all():
                ax.plot(x[held][-1:], error[held][-1:], "X", color=PALETTE[k], markersize=8)
        ax.set(xscale="log", yscale="log", xlabel="size of the number", ylabel="largest relative error")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def sums(values: np.ndarray, dtypes: Mapping[str, Any]) -> Figure:
    """Running sums of numbers (n,), each partial sum rounded to a type: {name: a type of NumPy}."""
    import matplotlib.pyplot as plt

    with style():
        fig, ax = plt.subplots(figsize=size(0.55))
        for k, (name, dtype) in enumerate(dtypes.items()):
            ax.plot(running_sum(values, dtype), label=name, color=PALETTE[k], linestyle=DASHES[k])
        ax.set(xlabel="terms", ylabel="sum so far")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def running_sum(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The partial sums of values (n,), added from left to right and rounded to a type after every addition."""
    total, found = np.zeros((), dtype), np.empty(len(values))
    for i, value in enumerate(values):
        total = (np.float32(total) + np.float32(value)).astype(dtype)
        found[i] = total
    return found


def speeds_table(results: Iterable[Mapping[str, Any]], dtypes: Sequence[str]) -> HTML:
    """This package's steps of decoding by type of weights, predicted and measured: a group for each machine.

    results: of `tfguide bench decode`. Predicted: the bytes of a step over what the memory gave in the same rounds.
    """
    lines = []
    for result in results:
        config = ModelConfig.from_dict(result["config"])
        rows = {row["dtype"]: row for row in result["rows"] if row["name"] == "tfguide" and "seconds" in row}
        about = f"{processor(result['machine'])}{_level(result)}"
        for dtype in (name for name in dtypes if name in rows):
            predicted, measured = predicted_and_measured(config, rows[dtype], result["limits"])
            faster = predicted_and_measured(config, rows["float32"], result["limits"])[1] / measured
            lines.append(
                (about, (TYPES[dtype], f"{1e3 * measured:.1f} ms", f"{1e3 * predicted:.1f} ms", f"{faster:.1f}\u00a0x"))
            )
    return grouped_table(("weights", "measured", "predicted", "than float32"), lines)


def predicted_and_measured(
    config: ModelConfig, row: Mapping[str, Any], limits: Mapping[str, float]
) -> tuple[float, float]:
    """The seconds of a step of a row of `tfguide bench decode`: the bytes over the bandwidth, and measured."""
    steps = row["new_tokens"] - 1
    n_bytes = bytes_read(config, row["dtype"], row["prompt"] + row["new_tokens"] // 2)
    bandwidth = row.get("read_bytes_per_second", limits["read_bytes_per_second"])
    return n_bytes / bandwidth, row["seconds"] / steps


def types_table(result: Mapping[str, Any]) -> HTML:
    """What each type changes: perplexity, logits, the first choice, and greedy texts.

    result: of `python -m tfguide.bench.precision types`.
    """
    exact = result["rows"][0]["perplexity"]
    change = [f"{row['perplexity'] / exact - 1:+.2%}".replace("-", "\u2212") for row in result["rows"]]
    rows = [
        (
            TYPES[row["dtype"]], f"{row['perplexity']:.3f}", change[k],
            f"{row['largest_difference']:.3f}", f"{row['divergence']:.1e}" if row["divergence"] else "0",
            f"{row['same_choice']:.1%}",
            f"{sum(n == result['n_new'] for n in row['first_differences'])} of {result['prompts']}",
        )
        for k, row in enumerate(result["rows"])
    ]  # fmt: skip
    return table(("type", "perplexity", "change", "largest difference", "KL, nats", "same choice", "equal texts"), rows)


def times_table(result: Mapping[str, Any]) -> HTML:
    """The seconds of a step and of a prompt by who computes and in which type.

    result: of `python -m tfguide.bench.precision times`.
    """
    names = {"kernels": "the C++ kernels", "framework": "PyTorch, operation by operation"}
    rows = sorted(result["rows"], key=lambda row: row["by"] == "framework")
    times = [(f"{1e3 * row['step_seconds']:.1f} ms", f"{row['prompt_seconds']:.2f} s") for row in rows]
    lines = [(names[row["by"]], (TYPES[row["dtype"]], *both)) for row, both in zip(rows, times, strict=True)]
    return grouped_table(("type", "a step", "a prompt"), lines)


def residual(result: Mapping[str, Any]) -> Figure:
    """The largest number of the residual stream before each block, of all positions and after the first.

    result: of `python -m tfguide.bench.activations`.
    """
    import matplotlib.pyplot as plt

    rows = result["residual"]
    at = np.arange(len(rows))
    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        for k, (key, words) in enumerate(
            (("largest", "largest"), ("others", "after position 0"), ("median", "median of channels"))
        ):
            look = {"color": PALETTE[k], "linestyle": DASHES[k], "marker": "os^"[k], "markersize": 3}
            ax.plot(at, [row[key] for row in rows], label=words, **look)
        for limit, words in ((65504, "float16 ends"), (256, "squares overflow")):
            ax.axhline(limit, linewidth=0.8, linestyle=DASHES[2], color=ink())
            ax.annotate(words, (0.42 * at[-1], limit), (0, 3), textcoords="offset points", fontsize=9)
        ax.set(yscale="log", xlabel="block", ylabel="magnitude")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def _level(result):
    level = result["machine"].get("level")
    return f", {level}" if level else ""


def _short(number):
    if 1e-3 <= number < 1e5:
        return f"{number:g}" if number < 1000 else f"{number:,.0f}"
    return f"{number:.1e}"
