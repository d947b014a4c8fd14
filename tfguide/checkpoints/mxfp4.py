"""Weights in MXFP4: numbers of 4 bits, 32 of which share a power of two.

Source: OCP Microscaling Formats, version 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checkpoints.tensors import Tensor

_BLOCK, _BIAS = 32, 127
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_NUMBERS = np.array([*_MAGNITUDES, *(-magnitude for magnitude in _MAGNITUDES)], np.float32)  # by their 4 bits


def dequantise(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Numbers (..., in), float32, of blocks uint8 (..., in / 32, 16) and their exponents uint8 (..., in / 32).

    Of each byte the lower half comes first.
    """
    halves = np.stack([blocks & 15, blocks >> 4], axis=-1)  # (..., in / 32, 16, 2)
    numbers = _NUMBERS[halves].reshape(*blocks.shape[:-1], _BLOCK)
    with np.errstate(over="ignore"):  # exponents of 254 make infinity, as there
        return np.ldexp(numbers, scales[..., None].astype(np.int32) - _BIAS).reshape(*scales.shape[:-1], -1)


@dataclass(frozen=True)
class StoredBlocks:
    """Weights of experts in a file, not read yet: their blocks and exponents, (experts, out, in), and their place.

    place: of the dequantised numbers (experts, in, out), as a file without blocks holds them.
    """

    blocks: Tensor
    scales: Tensor
    place: Any

    @property
    def dtype(self) -> str:
        """A type that holds every number: those of 4 bits times a power of two."""
        return "float32"

    def mapped(self, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The dequantised numbers, in an array of their own; index: of the part that is read, default: all of them."""
        experts, *inner = index or (slice(None),)
        rows = dequantise(np.asarray(self.blocks.stored()[experts]), np.asarray(self.scales.stored()[experts]))
        return self.place.take(rows.swapaxes(1, 2), (slice(None), *inner))

    def to_float32(self, keeps_order: bool = False, index: tuple[slice, ...] = ()) -> np.ndarray:
        """The weight as a float32 array of its own; keeps_order: as a view of one that is (experts, out, in).

        index: as in `mapped`.
        """
        rows = self.mapped(index)
        return rows if keeps_order else np.ascontiguousarray(rows)


def check_blocks(blocks: Tensor, scales: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError where tensors are not the blocks and exponents of a tensor (experts, in, out) of this shape."""
    experts, d_in, d_out = shape
    expected = (experts, d_out, d_in // _BLOCK, _BLOCK // 2)
    for tensor, wanted in ((blocks, expected), (scales, expected[:-1])):
        if tensor.shape != wanted or tensor.dtype != "U8" or d_in % _BLOCK:
            raise ValueError(
                f"{tensor.file}: tensor {tensor.name!r} must be U8 {wanted}, with inputs that are a multiple of "
                f"{_BLOCK}, got {tensor.dtype} {tensor.shape}"
            )
