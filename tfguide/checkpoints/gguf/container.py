"""GGUF files, the format of llama.cpp: opened, mapped into memory and checked."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.checkpoints.folder import INDEX, WEIGHTS
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, dequantise
from tfguide.checkpoints.gguf.header import MAGIC, Header

_ALIGNMENT = "general.alignment"


@dataclass(frozen=True, eq=False)
class GgufTensor:
    """A tensor of a GGUF file, mapped and not copied.

    shape: the outermost axis first, as NumPy has it. block_type: such as "F32" or "Q4_1". data: uint8, read-only, of
    the same shape except for the last axis, which has the bytes of a row's blocks.
    """

    name: str
    shape: tuple[int, ...]
    block_type: str
    data: np.ndarray

    def dequantised(self) -> np.ndarray:
        """The numbers as a float32 array of their own. Raises ImportError where that takes the package `gguf`."""
        return dequantise(self.data, self.block_type)


@dataclass(frozen=True, eq=False)
class GgufFile:
    """A GGUF file: its metadata and its tensors by name. The file stays mapped as long as one of its tensors lives.

    metadata: values are int, float, bool, str, or a list of one of them.
    """

    path: Path
    architecture: str
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def open_gguf(path: str | os.PathLike) -> GgufFile:
    """Map a GGUF file, and check all of it but the numbers of its tensors.

    path: the file, or a folder that holds one. Raises ValueError that names the file where it is truncated or corrupt,
    or where it is of a kind that is not supported: big-endian, divided into several files, of an unknown version or
    with an unknown type of blocks; FileNotFoundError, TypeError.
    """
    path = find_gguf(path)
    # An empty file cannot be mapped.
    mapped = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    header = Header(memoryview(mapped), str(path))
    n_tensors, n_pairs = header.start()
    metadata: dict[str, Any] = {}
    for _ in range(n_pairs):
        key, value = header.pair()
        if key in metadata:
            raise header.error(f"metadata {key!r} is there twice")
        metadata[key] = value
    architecture = _check_metadata(header, metadata)
    tensors = _tensors(header, n_tensors, metadata.get(_ALIGNMENT, 32), mapped)
    return GgufFile(path, architecture, metadata, tensors)


def is_gguf(path: str | os.PathLike) -> bool:
    """Whether a path is a GGUF file, by name or first bytes, or a folder with a .gguf and without safetensors."""
    path = Path(path)
    if path.is_dir():
        return bool(_files_in(path)) and not any((path / file).exists() for file in (WEIGHTS, INDEX))
    if path.suffix.lower() == ".gguf":
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def find_gguf(path: str | os.PathLike) -> Path:
    """The GGUF file that a path means: itself, or the only one in a folder.

    Raises ValueError where a folder has several, FileNotFoundError where there is none, TypeError.
    """
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if not path.is_dir():
        return path
    files = _files_in(path)
    if not files:
        raise FileNotFoundError(f"no GGUF file in {path}: looked for *.gguf")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{path} holds several GGUF files, name one of them: {names}")
    return files[0]


def _files_in(folder):
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf" and file.is_file())


def _check_metadata(header, metadata) -> str:
    """The architecture, once the keys about the file itself are checked."""
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise header.error(f"general.architecture must be a string, got {architecture!r}")
    alignment = metadata.get(_ALIGNMENT, 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise header.error(f"{_ALIGNMENT} must be a power of 2, got {alignment!r}")
    parts = metadata.get("split.count", 0)
    if parts not in (0, 1):
        raise header.error(
            f"one of {parts} files that a model was divided into is not supported, only a model in one file; "
            "`llama-gguf-split --merge` makes one"
        )
    return architecture


def _tensors(header, n_tensors, alignment, mapped) -> dict[str, GgufTensor]:
    found = {}
    for _ in range(n_tensors):
        name, *rest = header.tensor()
        if name in found:
            raise header.error(f"tensor {name!r} is there twice")
        found[name] = rest
    start = -(-header.at // alignment) * alignment
    places, tensors = [], {}
    for name, (shape, number, offset) in found.items():
        block = _block_type(header, name, shape, number)
        row = shape[-1] // block.size * block.n_bytes
        n_bytes = math.prod(shape[:-1]) * row
        first = start + offset
        if offset % alignment:
            raise header.error(f"tensor {name!r} must start at a multiple of {alignment} bytes, got {offset}")
        if first + n_bytes > mapped.size:
            raise header.error(
                f"tensor {name!r} of shape {shape} and type {block.name} goes beyond the end: it ends at byte "
                f"{first + n_bytes}, the file at {mapped.size}"
            )
        places.append((first, first + n_bytes, name))
        tensors[name] = GgufTensor(name, shape, block.name, mapped[first : first + n_bytes].reshape(*shape[:-1], row))
    places.sort()
    for (_, end, name), (first, _, other) in itertools.pairwise(places):
        if first < end:
            raise header.error(f"tensors {name!r} and {other!r} overlap")
    return tensors


def _block_type(header, name, shape, number):
    if number not in BLOCK_TYPES:
        known = ", ".join(block.name for block in BLOCK_TYPES.values())
        raise header.error(f"tensor {name!r} has the unknown block type {number}, supported are {known}")
    block = BLOCK_TYPES[number]
    if shape[-1] % block.size:
        raise header.error(
            f"tensor {name!r} must have rows of a multiple of {block.size} numbers in type {block.name}, got {shape}"
        )
    return block
