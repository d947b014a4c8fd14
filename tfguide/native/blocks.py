"""Rows of blocks of a GGUF file, packed for the kernels: the same levels and scales, 16 outputs side by side."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES as FILE_BLOCKS
from tfguide.checkpoints.gguf.blocks import NUMBERS
from tfguide.checks.values import check_count
from tfguide.compress.packing import CACHE_LINE, LANES
from tfguide.native import abi
from tfguide.native.library import library
from tfguide.native.tensors import address_of

PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # read in place


@dataclass(frozen=True)
class Layout:
    """What blocks become.

    bits: of a level; scaling: one of SCALINGS; group: inputs that share a scale; scale_bytes, unit_bytes: of one output
    and one block.
    """

    bits: int
    scaling: str
    group: int
    scale_bytes: int
    unit_bytes: int


PACKED = {
    "Q4_0": Layout(4, "halves", 32, 2, 0),
    "Q4_1": Layout(4, "halves and minima", 32, 4, 0),
    "Q5_0": Layout(8, "halves", 32, 2, 0),
    "Q8_0": Layout(8, "halves", 32, 2, 0),
    "Q4_K": Layout(4, "bytes of blocks", 32, 16, 4),
    "Q5_K": Layout(8, "bytes of blocks", 32, 16, 4),
    "Q6_K": Layout(8, "signed bytes", 16, 16, 2),
}
BLOCK_TYPES = (*PLAIN, *PACKED)


def repack(block_type: str, rows: np.ndarray, d_in: int, d_out: int, threads: int) -> tuple[np.ndarray, ...]:
    """The levels, scales and units, bytes, of a matrix from its rows of blocks, uint8 (out, bytes).

    Raises TypeError or ValueError for inputs that are not whole blocks, and rows of another size.
    """
    layout, block = PACKED[block_type], FILE_BLOCKS[NUMBERS[block_type]]
    n_blocks, rest = divmod(check_count("d_in", d_in), block.size)
    if rest:
        raise ValueError(f"d_in must be a multiple of the {block.size} inputs of a block of {block_type}, got {d_in}")
    address = address_of("the rows", rows, (check_count("d_out", d_out), n_blocks * block.n_bytes), "uint8")
    n = -(-d_out // LANES) * LANES * n_blocks
    sizes = block.size * layout.bits // 8, layout.scale_bytes, layout.unit_bytes
    parts = tuple(_zeros(n * size) for size in sizes)
    places = [part.ctypes.data if part.size else None for part in parts]
    form = abi.linear(places[0], f"int{layout.bits} a8", d_in, d_out, *places[1:], layout.scaling, layout.group)
    library().tfguide_repack(form, abi.code("BlockType", block_type), address, check_count("threads", threads))
    return parts


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is what a file holds, mapped and not changed since."""
    if array.flags.writeable:
        return False
    owner: Any = array
    while isinstance(owner, (np.ndarray, memoryview)):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def _zeros(n_bytes):
    """Zeros from the beginning of a cache line on, in memory that takes place only as it is written."""
    memory = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    return memory[-memory.ctypes.data % CACHE_LINE :][:n_bytes]
