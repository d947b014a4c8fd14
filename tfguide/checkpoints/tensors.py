"""Tensors in safetensors files: found by their headers, read as float32 through a memory map."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from tfguide.checkpoints.bits import from_bfloat16

# BF16 is the upper half of a float32; NumPy has no such type, so it is read as the bits that it is.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BYTES = {"U8": "|u1", "I8": "|i1"}  # of blocks and of packed weights, which are no numbers yet
DTYPE_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8", "I8": "int8",
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: known by the header, not read yet."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def dtype_name(self) -> str:
        """The type as NumPy names it, "bfloat16", or what the file says where NumPy has no such type."""
        return DTYPE_NAMES.get(self.dtype, self.dtype)

    def stored(self) -> np.ndarray:
        """The numbers as they are stored, mapped from the file."""
        return np.memmap(self.file, (DTYPES | _BYTES)[self.dtype], mode="r", offset=self.offset, shape=self.shape)

    def check_dtype(self) -> None:
        """Raise ValueError for a type that is not a plain floating type."""
        if self.dtype not in DTYPES:
            raise ValueError(
                f"{self.file}: tensor {self.name!r} has dtype {self.dtype}, expected one of {', '.join(DTYPES)}; "
                "quantised weights are not supported"
            )


def read_headers(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises ValueError where the file is truncated or corrupt; the safetensors library is the judge of that.
    """
    try:
        with safe_open(file, framework="numpy") as opened:
            names = set(opened.keys())
        with open(file, "rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            header = json.loads(opened.read(length), object_pairs_hook=unique_keys)
    except (SafetensorError, ValueError, struct.error, RecursionError) as error:
        raise ValueError(f"{file}: not a whole safetensors file: {error}") from error
    header.pop("__metadata__", None)
    if set(header) != names:
        raise ValueError(f"{file}: not a whole safetensors file: its header cannot be read in one way only")
    return {
        name: Tensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        for name, entry in header.items()
    }


def to_float32(tensor: Tensor, stored: np.ndarray) -> np.ndarray:
    """Numbers from `tensor.stored()`, or a view of them, as a float32 array of their own.

    Raises ValueError where a finite float64 lies beyond the largest float32.
    """
    if tensor.dtype == "BF16":
        return from_bfloat16(stored)
    with np.errstate(over="ignore"):
        array = np.array(stored, np.float32, order="C")
    if tensor.dtype == "F64" and (np.isinf(array) & np.isfinite(stored)).any():
        raise ValueError(f"{tensor.file}: tensor {tensor.name!r} holds float64 numbers beyond the largest float32")
    return array


def from_float32(array: np.ndarray, dtype: str) -> np.ndarray:
    """Float32 numbers rounded to the nearest of another type, contiguous; bfloat16 as its bits, uint16.

    dtype: "float32", "bfloat16" or "float16", in which a number beyond 65504 becomes infinity.
    """
    array = np.ascontiguousarray(array, np.float32)
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return array.astype(dtype, copy=False)
    bits = array.view(np.uint32)
    half = (bits >> 16) & 1  # of two numbers that are equally near, the even one
    half += np.uint32(0x7FFF)
    half += bits
    rounded = (half >> 16).astype(np.uint16)
    rounded[np.isnan(array)] = 0x7FC0  # rounding could make an infinity of it
    return rounded


def equal(a: Tensor, b: Tensor, rows: int = 4096) -> bool:
    """Whether two tensors hold the same numbers, bit for bit once they are float32; compared a few rows at a time."""
    if a.shape != b.shape:
        return False
    stored_a, stored_b = a.stored(), b.stored()
    return all(
        to_float32(a, stored_a[i : i + rows]).tobytes() == to_float32(b, stored_b[i : i + rows]).tobytes()
        for i in range(0, a.shape[0], rows)
    )


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object as a dictionary. Raises ValueError for a key that is there twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} is there twice")
    return result
