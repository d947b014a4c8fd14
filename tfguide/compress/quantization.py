"""Weights of 8 and 4 bits, activations of 8 bits, and bounds on their errors.

A number x is kept as an integer q and a scale s that it shares with others, x ~ s q. The error of rounding to the
nearest integer is at most s / 2, from which the bounds below follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count, make_plain
from tfguide.compress import packing

ACTIVATION_BLOCK = 32  # inputs that share a scale: an outlier costs 31 neighbours their precision, not the whole row
LARGEST = 8 * 65504.0  # float16 scales of 4-bit weights end at 65504


@dataclass(frozen=True)
class Quantization:
    """How a model's linear layers are quantised: weights of 8 or 4 bits, activations of 8 bits or not at all (None).

    8-bit weights have a scale for each output, 4-bit weights one for each `group_size` inputs of an output.
    NumPy's integers are integers. Raises ValueError for other numbers of bits, including True and 8.0, or a group size
    that is not a positive multiple of 8.
    """

    weight_bits: int = 8
    activation_bits: int | None = None
    group_size: int | None = 32

    def __post_init__(self):
        make_plain(self)
        if type(self.weight_bits) is not int or self.weight_bits not in (8, 4):
            raise ValueError(f"weight_bits must be 8 or 4, got {self.weight_bits!r}")
        if self.activation_bits is not None and (type(self.activation_bits) is not int or self.activation_bits != 8):
            raise ValueError(f"activation_bits must be 8 or None, got {self.activation_bits!r}")
        if self.weight_bits == 8:
            object.__setattr__(self, "group_size", None)
        elif type(self.group_size) is not int or self.group_size < 8 or self.group_size % 8:
            raise ValueError(f"group_size must be a positive multiple of 8, got {self.group_size!r}")

    def check_layer(self, name: str, weight: np.ndarray) -> None:
        """Raises ValueError that names a weight (in, out) which cannot be quantised in this way."""
        if not np.isfinite(weight).all():
            raise ValueError(f"weight {name!r} holds NaN or infinity and cannot be quantised")
        if self.weight_bits == 4 and np.abs(weight).max() > LARGEST:
            raise ValueError(
                f"weight {name!r} goes up to {np.abs(weight).max():.3g}: 4-bit scales end at {LARGEST:.3g}"
            )
        if self.weight_bits == 4 and weight.shape[0] % self.group_size:
            raise ValueError(
                f"weight {name!r} has {weight.shape[0]} inputs, which group_size={self.group_size} does not divide"
            )

    def pack(self, name: str, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A weight (in, out) as packed integers and packed scales: see `packing`. Raises ValueError."""
        self.check_layer(name, weight)
        if self.weight_bits == 8:
            q, scale = quantize_int8(weight)
            return packing.pack_int8(q), packing.pack_scales(scale)
        q, scale = quantize_int4(weight, self.group_size)
        return packing.pack_int4(q), packing.pack_scales(scale)

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of the arrays that `pack` returns for a weight (in, out)."""
        blocks = -(-n_out // packing.LANES)
        if self.weight_bits == 8:
            return (blocks, -(-n_in // 4), packing.LANES, 4), (blocks * packing.LANES,)
        return (blocks, n_in // 8, packing.LANES, 4), (blocks, n_in // self.group_size, packing.LANES)


def quantize_int8(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight (in, out) as int8 (out, in) from -127 to 127, and a float32 scale for each output, (out,)."""
    weight = np.asarray(weight, np.float32).T  # (out, in)
    scale = np.abs(weight).max(axis=1) / np.float32(127)
    return np.rint(weight / _divisor(scale)[:, None]).astype(np.int8), scale


def quantize_int4(weight: np.ndarray, group_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A weight (in, out) as int8 (out, in) from -8 to 7, and float16 scales (out, in / group_size): 4.5 bits for 32.

    The scale maps the entry of the largest magnitude to exactly -8, so it may be negative: the one integer without a
    counterpart represents the largest entry. An entry of the other sign beyond 7.5 scales is clipped to 7.
    """
    group_size = check_count("group_size", group_size)
    weight = np.asarray(weight, np.float32).T
    n_out, n_in = weight.shape
    groups = weight.reshape(n_out, n_in // group_size, group_size)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[..., None], axis=2)[..., 0]
    scale = (extreme / np.float32(-8)).astype(np.float16)
    q = np.clip(np.rint(groups / _divisor(scale.astype(np.float32))[..., None]), -8, 7)
    return q.reshape(n_out, n_in).astype(np.int8), scale


def quantize_activations(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations (..., in) as int8 of the same shape, and float32 scales (..., blocks), one for each 32 inputs."""
    x = np.asarray(x, np.float32)
    blocks = _blocks(x)
    scale = np.abs(blocks).max(axis=-1) / np.float32(127)
    q = np.rint(blocks / _divisor(scale)[..., None]).astype(np.int8)
    return q.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]], scale


def error_bound(
    x: np.ndarray, weight: np.ndarray, quantization: Quantization, q: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The largest possible difference of the quantised product from `x @ weight`, for each output; (..., out), float64.

    x: (..., in); weight: (in, out); q, scale: the quantised weight. Rounding changes a weight by at most half its scale
    and an activation by at most half its scale, so an output changes by at most `sum_k abs(x_k) s_w / 2` and `sum_k
    abs(w_k) s_x / 2`, where w_k is the rounded weight. In a 4-bit group entries between 7.5 and 8 scales are clipped to
    7, and the scale is itself rounded to float16: a weight changes by up to `s_w (1 + 8 / 2048)`, and by 2^-22 if a
    scale is too small for float16. The rounding of float32 sums is not counted.
    """
    x = np.asarray(x, np.float64)
    n_in, n_out = np.shape(weight)
    scale = np.asarray(scale, np.float64)
    per_input = np.repeat(np.abs(scale.reshape(n_out, -1)), n_in // scale.reshape(n_out, -1).shape[1], axis=1)
    slack = per_input / 2 if quantization.weight_bits == 8 else per_input * (1 + 8 / 2048) + 2.0**-22  # (out, in)
    bound = np.abs(x) @ slack.T
    if quantization.activation_bits:
        _, x_scale = quantize_activations(x)
        x_slack = np.repeat(x_scale, ACTIVATION_BLOCK, axis=-1)[..., :n_in] / 2
        bound += x_slack @ np.abs(q * per_input).T
    return bound


def _blocks(x):
    fill = -x.shape[-1] % ACTIVATION_BLOCK
    x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, fill)])
    return x.reshape(*x.shape[:-1], -1, ACTIVATION_BLOCK)


def _divisor(scale):
    return np.where(scale == 0, np.float32(1), scale)
