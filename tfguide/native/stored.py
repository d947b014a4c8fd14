"""Blocks of a GGUF file as matrices of the kernels."""

from __future__ import annotations

import numpy as np

from tfguide.checkpoints.gguf import Blocks
from tfguide.compress.packing import aligned
from tfguide.native.linear import BLOCK_TYPES, Matrix


def matrix_of_blocks(blocks: Blocks, bias: np.ndarray | None = None, threads: int | None = None) -> Matrix:
    """A weight of a GGUF file (out, in) as the kernels read it; types that they do not read become float32.

    bias: float32, (out,). threads: default: all cores that the process may use.
    """
    d_out, d_in = blocks.shape
    if blocks.block_type not in BLOCK_TYPES:
        return Matrix.of(aligned(blocks.dequantised()), "rows", bias)
    return Matrix.of_blocks(blocks.block_type, blocks.data, d_in, d_out, bias, threads)
