"""Rows of float32 numbers to the blocks of a GGUF file."""

from __future__ import annotations

import numpy as np

from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS, import_gguf
from tfguide.checkpoints.gguf.q4_k import quantise_q4_k

WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K")
OF_EXPERTS = "MXFP4"  # written for matrices of experts only, as in the files of gpt-oss

# What takes the place of a type whose blocks do not divide a row, as in llama.cpp.
_INSTEAD = {"MXFP4": "Q8_0", "Q4_K": "Q5_0", "Q8_0": "F16", "Q5_0": "F16", "Q4_1": "F16", "Q4_0": "F16"}


def fitting_type(block_type: str, row: int) -> str:
    """The type itself, or the one instead of it for rows that are no multiple of its blocks.

    >>> fitting_type("Q4_K", 576), fitting_type("Q4_K", 24), fitting_type("Q8_0", 576)
    ('Q5_0', 'F16', 'Q8_0')
    """
    while row % BLOCK_TYPES[NUMBERS[block_type]].size:
        block_type = _INSTEAD[block_type]
    return block_type


def quantise(rows: np.ndarray, block_type: str) -> np.ndarray:
    """Rows (..., in), float32, as blocks: uint8 (..., bytes).

    Q4_K is quantised here, all others by the package `gguf`. Raises ValueError for numbers that are not finite or that
    float16 does not hold, ImportError where the package is missing.
    """
    if not np.isfinite(rows).all():
        raise ValueError("must be finite to be written to a GGUF file")
    largest = np.abs(rows).max()
    if (
        block_type not in ("F32", "BF16", "MXFP4") and largest >= 65520.0
    ):  # float16, of numbers or scales, rounds it to infinity
        raise ValueError(f"must be at most 65504 in type {block_type}, got {largest}")
    if block_type == "Q4_K":
        return quantise_q4_k(rows)
    gguf = import_gguf(f"quantise to {block_type}")
    blocks = gguf.quants.quantize(rows, gguf.GGMLQuantizationType(NUMBERS[block_type]))
    return np.ascontiguousarray(blocks).view(np.uint8)
