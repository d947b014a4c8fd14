"""Weights of 8 and 4 bits, activations of 8 bits, and bounds on their errors.

A number x is kept as an integer q and a scale s that it shares with others, x ~ s q, or with a minimum m as well,
x ~ m + s q. The error of rounding to the nearest integer is at most s / 2, from which the bounds below follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count, make_plain
from tfguide.compress import packing
from tfguide.compress.rounding import Metric, round_weights
from tfguide.compress.scales import TOP, WIDEST, ByteScales, search_symmetric

ACTIVATION_BLOCK = 32  # inputs that share a scale: an outlier costs 31 neighbours their precision, not the whole row
LARGEST = 65504.0  # of float16
_BLOCK = 32  # inputs of 8-bit weights that are rounded before their errors change the targets of all others


@dataclass(frozen=True)
class Quantization:
    """How a model's linear layers are quantised: weights of 8 or 4 bits, activations of 8 bits or not at all (None).

    8-bit weights have a scale for each output, 4-bit weights one for each `group_size` inputs of an output. asymmetric:
    4-bit groups have a minimum beside the scale, as `quantize_uint4` describes it, and as many bits as a symmetric
    group's scale; default: where the weights have 4 bits. NumPy's integers are integers. Raises ValueError for other
    numbers of bits, including True and 8.0, a group size that is not a positive multiple of 8, or asymmetric weights of
    8 bits.
    """

    weight_bits: int = 8
    activation_bits: int | None = None
    group_size: int | None = 32
    asymmetric: bool | None = None

    def __post_init__(self):
        make_plain(self)
        if type(self.weight_bits) is not int or self.weight_bits not in (8, 4):
            raise ValueError(f"weight_bits must be 8 or 4, got {self.weight_bits!r}")
        if self.activation_bits is not None and (type(self.activation_bits) is not int or self.activation_bits != 8):
            raise ValueError(f"activation_bits must be 8 or None, got {self.activation_bits!r}")
        if self.asymmetric is None:
            object.__setattr__(self, "asymmetric", self.weight_bits == 4)
        if type(self.asymmetric) is not bool or (self.asymmetric and self.weight_bits != 4):
            raise ValueError(
                f"asymmetric must be True, False or None, and not True with 8-bit weights, got {self.asymmetric!r} "
                f"with weight_bits={self.weight_bits}"
            )
        if self.weight_bits == 8:
            object.__setattr__(self, "group_size", None)
        elif type(self.group_size) is not int or self.group_size < 8 or self.group_size % 8:
            raise ValueError(f"group_size must be a positive multiple of 8, got {self.group_size!r}")

    def check_layer(self, name: str, weight: np.ndarray) -> None:
        """Raises ValueError that names a weight (in, out) which cannot be quantised in this way."""
        if not np.isfinite(weight).all():
            raise ValueError(f"weight {name!r} holds NaN or infinity and cannot be quantised")
        largest = LARGEST if self.asymmetric else 8 * LARGEST
        if self.weight_bits == 4 and np.abs(weight).max() > largest:
            raise ValueError(
                f"weight {name!r} goes up to {np.abs(weight).max():.3g}: 4-bit scales end at {largest:.3g}"
            )
        if self.weight_bits == 4 and weight.shape[0] % self.group_size:
            raise ValueError(
                f"weight {name!r} has {weight.shape[0]} inputs, which group_size={self.group_size} does not divide"
            )

    def pack(self, name: str, weight: np.ndarray, gram: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """A weight (in, out) as the arrays that `parts` names: see `packing`. Raises ValueError.

        gram: X^T X of inputs of the layer, (in, in), for second-order rounding; default: rounding to the nearest level.
        """
        self.check_layer(name, weight)
        if self.weight_bits == 8:
            q, scale = quantize_int8(weight, gram)
            return packing.pack_int8(q), packing.pack_scales(scale)
        if self.asymmetric:
            levels, scale, unit = quantize_uint4(weight, self.group_size, gram)
            return packing.pack_uint4(levels), packing.pack_bytes(scale), packing.pack_units(unit)
        q, scale = quantize_int4(weight, self.group_size, gram)
        return packing.pack_int4(q), packing.pack_scales(scale)

    def pack_any(self, name: str, weight: np.ndarray, gram: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """`pack` of a matrix (in, out), or of those of experts (experts, in, out), stacked. Raises ValueError."""
        if weight.ndim == 2:
            return self.pack(name, weight, gram)
        packed = [self.pack(f"{name}[{expert}]", matrix, gram) for expert, matrix in enumerate(weight)]
        return tuple(np.stack(parts) for parts in zip(*packed, strict=True))

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the arrays that represent a weight: "packed", "scale" and, if it is asymmetric, "unit"."""
        return ("packed", "scale", "unit") if self.asymmetric else ("packed", "scale")

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[tuple[int, ...], str], ...]:
        """The shape and type of each array that represents a weight (in, out), in the order of `parts`."""
        blocks = -(-n_out // packing.LANES)
        if self.weight_bits == 8:
            return ((blocks, -(-n_in // 4), packing.LANES, 4), "int8"), ((blocks * packing.LANES,), "float32")
        packed, groups = ((blocks, n_in // 8, packing.LANES, 4), "uint8"), n_in // self.group_size
        if not self.asymmetric:
            return packed, ((blocks, groups, packing.LANES), "float16")
        return packed, ((blocks, groups, 2, packing.LANES), "uint8"), ((2, blocks * packing.LANES), "float16")

    def weight_bytes(self, n_in: int, n_out: int) -> float:
        """The bytes of a weight (in, out) with its scales, without those that pad the outputs to whole blocks."""
        if self.weight_bits == 8:
            return n_in * n_out + 4 * n_out
        return n_in * n_out / 2 + 2 * n_out * (n_in // self.group_size) + (4 * n_out if self.asymmetric else 0)


def quantize_int8(weight: np.ndarray, gram: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A weight (in, out) as int8 (out, in) from -127 to 127, and a float32 scale for each output, (out,).

    gram: X^T X of inputs of the layer, (in, in), for second-order rounding; default: rounding to the nearest integer.
    """
    weight = np.asarray(weight, np.float32)
    scale = np.abs(weight).max(axis=0, initial=0) / np.float32(127)

    def fit(targets, importance, rows, columns):
        return scale[columns], -127 * scale[columns]

    return (round_weights(weight, _metric(weight, gram), fit, _BLOCK, 254) - np.uint8(127)).view(np.int8).T, scale


def quantize_int4(
    weight: np.ndarray, group_size: int = 32, gram: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A weight (in, out) as int8 (out, in) from -8 to 7, and float16 scales (out, in / group_size): 4.5 bits for 32.

    Each scale is searched for the least square error. It may be negative: the one integer without a counterpart
    represents the largest entry. gram: as in `quantize_int8`; errors are then weighted by it.
    """
    weight = np.asarray(weight, np.float32)
    group_size = _check_groups(weight, group_size)
    scale = np.empty((len(weight) // group_size, weight.shape[1]), np.float32)

    def fit(targets, importance, rows, columns):
        found = scale[rows.start // group_size, columns] = search_symmetric(targets, importance)
        return found, -8 * found

    levels = round_weights(weight, _metric(weight, gram), fit, group_size, TOP)
    return (levels.view(np.int8) - np.int8(8)).T, scale.T.astype(np.float16)


def quantize_uint4(
    weight: np.ndarray, group_size: int = 32, gram: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight (in, out) as levels from 0 to 15, a step and a minimum for each group: 4.5 bits and 32 bits an output.

    Level l stands for `minimum + step l`. Returns levels uint8 (out, in); bytes uint8 (out, in / group_size, 2), of the
    step and the minimum; units float16 (out, 2): see `ByteScales` of `tfguide.compress.scales`. gram: as in
    `quantize_int4`.
    """
    weight = np.asarray(weight, np.float32)
    group_size = _check_groups(weight, group_size)
    scales = ByteScales(weight, group_size)
    found = np.empty((2, len(weight) // group_size, weight.shape[1]), np.float32)

    def fit(targets, importance, rows, columns):
        step, minimum = scales.search(targets, importance, columns)
        found[:, rows.start // group_size, columns] = step, minimum
        return step, minimum

    levels = round_weights(weight, _metric(weight, gram), fit, group_size, TOP)
    return levels.T, scales.bytes_of(*found), np.ascontiguousarray(scales.unit.T)


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations (..., in) as int8 of the same shape, and float32 scales (..., blocks), one for each 32 inputs."""
    x = np.asarray(x, np.float32)
    blocks = _blocks(x)
    scale = np.abs(blocks).max(axis=-1) / np.float32(127)
    q = np.rint(blocks / _divisor(scale)[..., None]).astype(np.int8)
    return q.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]], scale


def error_bound(
    x: np.ndarray,
    weight: np.ndarray,
    quantization: Quantization,
    q: np.ndarray,
    scale: np.ndarray,
    unit: np.ndarray | None = None,
) -> np.ndarray:
    """The largest possible difference of the quantised product from `x @ weight`, for each output; (..., out), float64.

    x: (..., in); weight: (in, out), rounded to the nearest level; q, scale, unit: what it was rounded to. With weights
    that change by at most `c s_w` and activations by at most half their scale, an output changes by at most `sum_k
    abs(x_k) c s_w` and `sum_k abs(w_k) s_x / 2`, where w_k is the rounded weight. 8 bits: c = 1/2. 4 bits: entries
    beyond the last level are clipped. A symmetric group reaches up to 9 scales and its levels to 7, so c = 2; the scale
    is itself rounded to float16, by `8 / 2048 s_w`, or 2^-22 if it is too small for float16. An asymmetric group
    reaches up to a step beyond its levels, so c = 1. The rounding of float32 numbers is not counted. For second-order
    rounding see `mean_square_bound`.
    """
    x = np.asarray(x, np.float64)
    n_in, n_out = np.shape(weight)
    rounded, step = _as_numbers(q, scale, unit)
    step = np.repeat(np.abs(step.reshape(n_out, -1)), n_in // step.reshape(n_out, -1).shape[1], axis=1)  # (out, in)
    if quantization.weight_bits == 8:
        slack = step / 2
    else:
        slack = step if quantization.asymmetric else step * (WIDEST - 7 + 8 / 2048) + 2.0**-22
    bound = np.abs(x) @ slack.T
    if quantization.activation_bits:
        _, x_scale = quantize_activations(x)
        x_slack = np.repeat(x_scale, ACTIVATION_BLOCK, axis=-1)[..., :n_in] / 2
        bound += x_slack @ np.abs(rounded).T
    return bound


def _as_numbers(q, scale, unit):
    """The numbers (out, in) that integers stand for, and the steps (out,) or (out, groups), in float64."""
    if unit is None:
        step, minimum = np.asarray(scale, np.float64), 0.0
    else:
        step, minimum = np.moveaxis(scale * np.asarray(unit, np.float64)[:, None] / 255, -1, 0)
        minimum = -minimum[..., None]
    by_group = step.reshape(len(q), -1)[..., None]
    groups = np.asarray(q, np.float64).reshape(len(q), by_group.shape[1], -1)
    return (groups * by_group + minimum).reshape(q.shape), step


def _metric(weight, gram):
    return Metric.uniform(len(weight)) if gram is None else Metric.of(gram)


def _check_groups(weight, group_size):
    group_size = check_count("group_size", group_size)
    if len(weight) % group_size:
        raise ValueError(f"group_size={group_size} does not divide the {len(weight)} inputs of the weight")
    return group_size


def _blocks(x):
    fill = -x.shape[-1] % ACTIVATION_BLOCK
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, fill)])
    return x.reshape(*x.shape[:-1], -1, ACTIVATION_BLOCK)


def _divisor(scale):
    return np.where(scale == 0, np.float32(1), scale)
