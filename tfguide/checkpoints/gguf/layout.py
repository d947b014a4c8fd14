"""From the tensors of a GGUF file to canonical weights, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from tfguide.checkpoints.gguf.blocks import Blocks, dequantise
from tfguide.checkpoints.gguf.container import GgufFile, GgufTensor
from tfguide.config import ModelConfig
from tfguide.weights import Weight, weight_shapes, weight_table


@dataclass(frozen=True)
class Place:
    """Where a canonical weight lies in a GGUF file, whose matrices are (out, in).

    heads: the rows are those of so many heads, each with the features (2i, 2i + 1) of a rotated pair side by side, as
    llama.cpp turns them; canonical weights have the pairs at (i, i + d / 2). 0: the rows have the canonical order.
    rows, height: the weight is these of the `height` rows of a tensor that several weights share.
    """

    name: str
    heads: int = 0
    rows: range | None = None
    height: int | None = None

    def shape(self, weight: Weight) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        first, *rest = rows_shape(weight)
        return (first if self.height is None else self.height, *rest)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the canonical weight, in their order, from the rows of the tensor: a view, or a copy of heads."""
        if self.rows is not None:
            rows = rows[self.rows.start : self.rows.stop]
        return _turned(rows, self.heads, (-1, 2)) if self.heads else rows

    def put(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the tensor, from those of the canonical weight: what `take` undoes."""
        return _turned(rows, self.heads, (2, -1)) if self.heads else rows


def linear(ours: str, theirs: str, bias: bool = True, **place) -> Iterator[tuple[str, Place]]:
    """The places of a matrix and of its bias."""
    yield f"{ours}.weight", Place(f"{theirs}.weight", **place)
    if bias:
        yield f"{ours}.bias", Place(f"{theirs}.bias", **place)


def fused(heights: Mapping[str, int], theirs: str, bias: bool = True) -> Iterator[tuple[str, Place]]:
    """The places of linear maps that one tensor holds, one below the other. heights: by our names, in order."""
    first, height = 0, sum(heights.values())
    for ours, size in heights.items():
        yield from linear(ours, theirs, bias, rows=range(first, first + size), height=height)
        first += size


def rows_shape(weight: Weight) -> tuple[int, ...]:
    """The shape of a weight as rows: a matrix is (out, in), those of experts are (experts, out, in)."""
    return (*weight.shape[:-2], weight.shape[-1], weight.shape[-2]) if weight.is_matrix else weight.shape


def read_arrays(config: ModelConfig, architecture: ModuleType, file: GgufFile) -> dict[str, Blocks | np.ndarray]:
    """The canonical weights: matrices and the embedding of tokens as blocks, all others as float32 arrays.

    Every name and shape is checked before a number is read. Raises ValueError that names file and tensor.
    """
    if config.n_layers > len(file.tensors):
        raise ValueError(f"{file.path}: {config.n_layers} layers, but there are only {len(file.tensors)} tensors")
    shapes = weight_shapes(config)
    table = weight_table(config)
    places = architecture.places(config)
    expected = {place.name for place in places.values()} | architecture.BESIDE
    for name in file.tensors:
        if name not in expected and not architecture.SKIPPED.fullmatch(name):
            raise ValueError(
                f"{file.path}: unexpected tensor {name!r}: {architecture.READS}; the configuration has no such weight"
            )
    tensors = {name: _tensor(name, places[name], table[name], file) for name in shapes}
    return {name: _array(places[name], table[name], tensor) for name, tensor in tensors.items()}


def gguf_tensors(config: ModelConfig, architecture: ModuleType) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """The tensors to write: by name, the shape of each and the canonical weights that it is made of, in order."""
    places, table, tensors = architecture.places(config), weight_table(config), {}
    for name in weight_shapes(config):
        place = places[name]
        tensors.setdefault(place.name, (place.shape(table[name]), []))[1].append(name)
    return tensors


def gguf_array(
    config: ModelConfig, places: Mapping[str, Place], weights: Mapping[str, np.ndarray], names: list[str]
) -> np.ndarray:
    """A tensor to write from its canonical weights: float32, contiguous."""
    table = weight_table(config)
    rows = [
        places[name].put(weights[name].swapaxes(-2, -1) if table[name].is_matrix else weights[name]) for name in names
    ]
    return np.ascontiguousarray(rows[0] if len(rows) == 1 else np.concatenate(rows), np.float32)


def _tensor(ours, place, weight, file) -> GgufTensor:
    shape = place.shape(weight)
    if place.name not in file.tensors:
        raise ValueError(f"{file.path}: missing tensor {place.name!r} of shape {shape} ({ours})")
    tensor = file.tensors[place.name]
    if tensor.shape != shape:
        raise ValueError(f"{file.path}: tensor {place.name!r} must have shape {shape}, got {tensor.shape}")
    return tensor


def _array(place, weight, tensor):
    if weight.is_matrix or weight.role == "embedding":
        return Blocks(tensor.block_type, rows_shape(weight), place.take(tensor.data))
    if len(tensor.shape) == 1:
        return place.take(tensor.dequantised())
    return dequantise(place.take(tensor.data), tensor.block_type)


def _turned(rows, heads, pairs):
    """Rows of heads whose two axes, named by the sizes `pairs` (one of them 2), are exchanged."""
    rows = np.asarray(rows)  # the copy is no view of a file, and no np.memmap
    return rows.reshape(heads, *pairs, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
