"""Section 6.6: the stepper of a quantised group, and what rounding weights, activations and caches costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfguide.compress import dequantize, pack_uint4, quantize_uint4
from tfguide.compress.packing import pack_bytes, pack_units
from tfguide.figures.steppers import Cell, Frame, Row, cells
from tfguide.figures.style import DASHES, PALETTE, size, style
from tfguide.figures.tables import grouped_table, table

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

#: What the states of the frames mean.
LEGEND = {
    "new": "computed in this step", "kept": "what is stored", "read": "what a product reads", "rejected": "the outlier",
}  # fmt: skip
KINDS = {"query": "queries, keys, values", "output": "attention's output", "gate": "gate and up", "down": "down"}


def quantised_group(weights: Sequence[float], inputs: Sequence[float], outlier: float) -> list[Frame]:
    """The frames of a group of 4-bit weights: its levels, its bytes, a product with them, and an outlier.

    weights: (8,), one group; inputs: (8,), what they are multiplied by; outlier: replaces the last weight in
    the last frame. Raises ValueError unless there are 8 of both.
    """
    weights, inputs = np.asarray(weights, np.float32), np.asarray(inputs, np.float32)
    if weights.shape != (8,) or inputs.shape != (8,):
        raise ValueError(f"expected 8 weights and 8 inputs, got {weights.shape} and {inputs.shape}")
    levels, step, minimum, back = _rounded(weights)
    packed = pack_uint4(levels[None])[0, 0, 0]  # of the first of 16 outputs
    exact, product = float(inputs @ weights), float(inputs @ back)
    by_levels = step * float(inputs @ levels) + minimum * float(inputs.sum())
    worst = float(np.abs(weights - back).max())
    shown, scale = (
        _numbers("weights", weights),
        Row("step, minimum", cells(f"{step:.4f}", _text(minimum, 3), state="kept")),
    )
    stored = Row("levels", cells(*levels, state="kept"))
    spoiled = np.append(weights[:-1], np.float32(outlier))
    their_levels, their_step, their_minimum, their_back = _rounded(spoiled)
    theirs = float(np.abs(spoiled - their_back)[:-1].max())
    return [
        Frame(
            f"Eight weights of one output, in float32: 32 bytes. They lie between {_text(weights.min(), 2)} and "
            f"{_text(weights.max(), 2)}.",
            (shown,),
        ),
        Frame(
            f"Sixteen levels are laid over that range: level l stands for {_text(minimum, 3)} + {step:.4f} l. Step and "
            "minimum are searched for the least square error, and stored in a byte each.",
            (shown, Row("step, minimum", cells(f"{step:.4f}", _text(minimum, 3), state="new"))),
        ),
        Frame(
            "Each weight becomes the number of its nearest level: (weight \u2212 minimum) / step, rounded.",
            (shown, scale, Row("levels", cells(*levels, state="new"))),
        ),
        Frame(
            "Two levels share a byte: the lower half holds one of the first four, the upper half one of the last four. "
            f"Eight weights take {packed.nbytes} bytes, and two for the group.",
            (stored, Row("bytes", cells(*(f"0x{byte:02x}" for byte in packed), state="new")), scale),
        ),
        Frame(
            f"What comes back. Between the levels no weight is further off than half a step, {step / 2:.4f}. The worst "
            f"here is off by {worst:.4f}.",
            (shown, _numbers("come back", back, "read"), _numbers("error", back - weights, digits=3)),
        ),
        Frame(
            "A product needs no weight in float32: step times the sum of input times level, plus minimum times the sum "
            f"of the inputs. That is {_text(by_levels, 3)}, and {_text(product, 3)} with the weights that come back. "
            f"The exact product is {_text(exact, 3)}.",
            (
                _numbers("inputs", inputs, digits=1), stored, scale,
                Row("product", cells(_text(by_levels, 3), state="new")),
            ),
        ),
        Frame(
            f"With an outlier the levels are {their_step / step:.1f} times as far apart, and the seven others pay: the "
            f"worst of them is now off by {theirs:.4f}. Groups are small so that few share its fate.",
            (
                _numbers("weights", spoiled, last="rejected"), Row("levels", cells(*their_levels, state="kept")),
                _numbers("come back", their_back, "read"),
                Row("step, minimum", cells(f"{their_step:.4f}", _text(their_minimum, 3), state="kept")),
            ),
        ),
    ]  # fmt: skip


def _rounded(weights):
    """The levels of one group, its step and minimum, and the weights that come back."""
    levels, scale, unit = quantize_uint4(weights[:, None], 8)
    step, minimum = scale[0, 0] * unit[0].astype(np.float32) / np.float32(255) * np.array([1, -1], np.float32)
    back = dequantize(pack_uint4(levels), pack_bytes(scale), 1, 8, pack_units(unit))[:, 0]
    return levels[0], float(step), float(minimum), back


def _numbers(name, numbers, state="", digits=2, last=""):
    texts = [_text(number, digits) for number in numbers]
    some = [Cell(text, state) for text in texts]
    return Row(name, (*some[:-1], Cell(texts[-1], last)) if last else tuple(some))


def _text(number, digits):
    return f"{round(float(number), digits) + 0.0:.{digits}f}".replace("-", "\u2212")  # + 0.0: no minus before a zero


def channels(result: Mapping[str, Any], layers: Sequence[str]) -> Figure:
    """The largest channels of the inputs of some layers, over the median channel of each.

    result: of `python -m tfguide.bench.activations`.
    """
    import matplotlib.pyplot as plt

    rows = {row["layer"]: row for row in result["inputs"]}
    with style():
        fig, ax = plt.subplots(figsize=size(0.62))
        for k, name in enumerate(layers):
            row = rows[name]
            over = [value / row["median"] for value in row["channels"]]
            look = {"color": PALETTE[k], "linestyle": DASHES[k], "marker": "os^D"[k], "markersize": 4}
            ax.plot(range(1, len(over) + 1), over, label=_short(name), **look)
        ax.set(yscale="log", xlabel="channel, from the largest", ylabel="times the median channel")
        fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def errors_table(result: Mapping[str, Any]) -> HTML:
    """What 8 bits for the inputs change of the outputs, by kind of layer: the median of the layers, and the worst.

    result: of `python -m tfguide.bench.activations`.
    """
    lines = []
    for kind, words in KINDS.items():
        own = [row["errors"] for row in result["inputs"] if row["layer"].endswith(f".{kind}")]
        for scale in own[0] if own else ():
            errors = [one[scale] for one in own]
            lines.append(
                (words, (f"{statistics.median(errors):.2%}", f"{max(errors):.2%}", f"one for {_scope(scale)}"))
            )
    return grouped_table(("median", "worst layer", "scale"), lines)


def roundings_table(result: Mapping[str, Any]) -> HTML:
    """Perplexity with 8-bit inputs of all linear layers, by what shares a scale.

    result: of `python -m tfguide.bench.activations`.
    """
    exact = result["roundings"][0]["perplexity"]
    rows = [
        (f"{row['perplexity']:.2f}", _change(row["perplexity"], exact),
         "not rounded" if row["scale"] is None else f"one for {_scope(row['scale'])}")
        for row in result["roundings"]
    ]  # fmt: skip
    return table(("perplexity", "change", "scale"), rows)


def weights_table(result: Mapping[str, Any], times: bool = True) -> HTML:
    """This package's rows of `tfguide bench quantization`: quality, bits, and a step, measured and predicted.

    Predicted: the bytes of the matrices over what the memory gave in the same rounds. times: whether to show both.
    """
    exact = result["rows"][0]["perplexity"]
    rows = []
    for row in result["rows"]:
        if row["name"] != "tfguide" or "file as it is" in row["weights"]:
            continue
        cells = [row["weights"], f"{row['perplexity']:.2f}", _change(row["perplexity"], exact), f"{row['bits']:.2f}",
                 f"{row['n_bytes'] / 1e6:,.0f} MB"]  # fmt: skip
        if times:
            measured = row["seconds"] / row["new_tokens"]
            cells += [_ms(measured), _ms(measured * row["share_of_bandwidth"])]
        rows.append(cells)
    head = ("weights", "perplexity", "change", "bits", "all weights")
    return table((*head, "a step", "predicted") if times else head, rows)


def caches_table(result: Mapping[str, Any]) -> HTML:
    """Perplexity through each type of cache, its bytes, and the time of a step. result: of `tfguide bench caches`."""
    rows = [
        (row["cache_dtype"], f"{row['perplexity']:.3f}", _change(row["perplexity"], result["rows"][0]["perplexity"]),
         f"{row['bytes'] / 1e6:.1f} MB", _ms(row["step_seconds"]))
        for row in result["rows"]
    ]  # fmt: skip
    return table(("cache", "perplexity", "change", "bytes", "a step"), rows)


def _change(perplexity, exact):
    return f"{perplexity / exact - 1:+.2%}".replace("-", "\u2212")


def _ms(seconds):
    return f"{1e3 * seconds:.2f} ms"


def _scope(scale):
    return {"tensor": "the whole tensor", "row": "each row", "32 of a row": "32 inputs of a row"}[scale]


def _short(name):
    _, _, layer, *_, part = name.split(".")
    return f"block {layer}, {part}"
