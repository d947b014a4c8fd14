"""Blocks of numbers as a GGUF file holds them: their types, and the numbers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from tfguide.checkpoints.bits import from_bfloat16
from tfguide.checkpoints.gguf.dequantise import DEQUANTISE
from tfguide.checks.values import check_choice


@dataclass(frozen=True)
class BlockType:
    """A type of a GGUF tensor.

    name: as llama.cpp has it, such as "Q4_1". size: numbers in a block, which lie along the tensor's last axis.
    n_bytes: bytes of a block.
    """

    name: str
    size: int
    n_bytes: int


# By the number in the file; only types that the package `gguf` can dequantise. Source: ggml-common.h of ggml.
BLOCK_TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: BlockType("IQ4_NL", 32, 18),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: BlockType("IQ4_XS", 256, 136),
    29: BlockType("IQ1_M", 256, 56),
    30: BlockType("BF16", 1, 2),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
}
_PLAIN = {"F32": "<f4", "F16": "<f2"}

NUMBERS = {block.name: number for number, block in BLOCK_TYPES.items()}


@dataclass(frozen=True, eq=False)
class Blocks:
    """A matrix as rows of blocks, (out, in): each row has the weights of one output, or is the vector of one token.

    The matrices of experts are stacked, (experts, out, in). block_type: one of BLOCK_TYPES by name. shape: (out, in).
    data: uint8 (out, bytes), most often mapped from a file.
    Raises ValueError for an unknown type, and for data of another type or shape.
    """

    block_type: str
    shape: tuple[int, ...]
    data: np.ndarray

    def __post_init__(self):
        check_choice("block_type", self.block_type, tuple(NUMBERS))
        block, (*rows, d_in) = BLOCK_TYPES[NUMBERS[self.block_type]], self.shape
        if d_in % block.size:
            raise ValueError(f"rows must be a multiple of {block.size} numbers in type {block.name}, got {d_in}")
        expected = *rows, d_in // block.size * block.n_bytes
        if self.data.dtype != np.uint8 or self.data.shape != expected:
            raise ValueError(
                f"data must be uint8 {expected} for {self.shape} numbers in type {block.name}, got {self.data.dtype} "
                f"{self.data.shape}"
            )

    def dequantised(self) -> np.ndarray:
        """The numbers (out, in), float32. Raises ImportError for a type that takes the package `gguf`."""
        return dequantise(self.data, self.block_type)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of some rows, or of matrices of a stack, by their integers (...). Raises as `dequantised`."""
        return dequantise(self.data[rows], self.block_type)

    def cut(self, axis: int, start: int, stop: int) -> Blocks | np.ndarray:
        """Those from `start` to `stop` along an axis of `shape`: blocks, or float32 numbers where a block is cut."""
        block = BLOCK_TYPES[NUMBERS[self.block_type]]
        if axis < len(self.shape) - 1:
            data = self.data[(*[slice(None)] * axis, slice(start, stop))]
            data = data if isinstance(data, np.memmap) else data.copy()  # what is not in a file would be kept whole
        elif start % block.size or stop % block.size:
            return np.ascontiguousarray(self.dequantised()[..., start:stop])
        else:
            first, last = (end // block.size * block.n_bytes for end in (start, stop))
            data = np.ascontiguousarray(self.data[..., first:last])
        return Blocks(self.block_type, tuple(stop - start if i == axis else n for i, n in enumerate(self.shape)), data)

    @property
    def n_bytes(self) -> int:
        """The bytes of all blocks."""
        return self.data.nbytes


def dequantise(data: np.ndarray, block_type: str) -> np.ndarray:
    """Rows of blocks (..., bytes), uint8, as float32 numbers (..., in), in an array of their own.

    The package `gguf` dequantises types that are rare in files. Raises ImportError where it is needed and missing.
    """
    data = np.asarray(data)  # of a file: the result is no np.memmap
    if block_type in _PLAIN:
        return np.ascontiguousarray(data).view(_PLAIN[block_type]).astype(np.float32)
    if block_type == "BF16":
        return from_bfloat16(np.ascontiguousarray(data).view("<u2"))
    with np.errstate(all="ignore"):  # a block may hold any bits: what is not finite is not finite in llama.cpp either
        if block_type in DEQUANTISE:
            *rows, n_bytes = data.shape
            block = BLOCK_TYPES[NUMBERS[block_type]]
            numbers = DEQUANTISE[block_type](data.reshape(-1, block.n_bytes))
            return numbers.reshape(*rows, n_bytes // block.n_bytes * block.size)
        gguf = import_gguf(f"dequantise blocks of type {block_type}")
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType(NUMBERS[block_type]))


def import_gguf(purpose: str) -> ModuleType:
    """The package `gguf`. Raises ImportError that says what it is needed for and how to install it."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise ImportError(f"the package gguf is needed to {purpose}: pip install 'tfguide[gguf]'") from None
    return gguf
