"""The bits of numbers of 16 bits that NumPy has no type for."""

from __future__ import annotations

import numpy as np


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """The bits of bfloat16, uint16, as float32 numbers of the same shape: they are the upper half of float32's."""
    return (np.ascontiguousarray(bits).astype(np.uint32) << 16).view(np.float32)
