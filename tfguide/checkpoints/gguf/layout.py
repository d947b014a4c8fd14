"""From the tensors of a GGUF file to canonical weights, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
    first: so many features of a head come before the rotated ones.
    rows, height: the weight is these of the `height` rows of a tensor that several weights share.
    """

    name: str
    heads: int = 0
    first: int = 0
    rows: range | None = None
    height: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a file may hold."""
        return (self.name,)

    def shapes(self, weight: Weight) -> dict[str, tuple[int, ...]]:
        """The shape of the whole tensor, by its name."""
        first, *rest = rows_shape(weight)
        return {self.name: (first if self.height is None else self.height, *rest)}

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of the canonical weight, in their order, from the rows of the tensor: a view, or a copy of heads."""
        if self.rows is not None:
            rows = rows[self.rows.start : self.rows.stop]
        return _turned(rows, self.heads, (-1, 2), self.first) if self.heads else rows

    def put(self, rows: np.ndarray, name: str) -> np.ndarray:
        """The rows of the tensor, from those of the canonical weight: what `take` undoes."""
        return _turned(rows, self.heads, (2, -1), self.first) if self.heads else rows


@dataclass(frozen=True)
class Absorbed:
    """Where the matrix lies that makes keys and values of latents: as llama.cpp multiplies by it, in two tensors.

    key: the name of (heads, R, d_nope), which queries are multiplied by; value: of (heads, d_value, R). The rows of the
    matrix (heads (d_nope + d_value), R) are those of a head's key, then those of its value. whole: the name under which
    old files hold the matrix itself.
    """

    key: str
    value: str
    whole: str
    heads: int
    d_nope: int

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a file may hold."""
        return self.key, self.value, self.whole

    def shapes(self, weight: Weight) -> dict[str, tuple[int, ...]]:
        """The shapes of both tensors, by their names."""
        height, rank = rows_shape(weight)
        d_value = height // self.heads - self.d_nope
        return {self.key: (self.heads, rank, self.d_nope), self.value: (self.heads, d_value, rank)}

    def joined(self, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The rows of the canonical weight, from the numbers of both tensors."""
        rows = np.concatenate([key.swapaxes(1, 2), value], axis=1)
        return rows.reshape(-1, rows.shape[-1])

    def put(self, rows: np.ndarray, name: str) -> np.ndarray:
        """The numbers of one of the tensors, from the rows of the canonical weight: what `joined` undoes."""
        by_head = rows.reshape(self.heads, -1, rows.shape[-1])
        return by_head[:, : self.d_nope].swapaxes(1, 2) if name == self.key else by_head[:, self.d_nope :]


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


def open_arrays(
    config: ModelConfig, architecture: ModuleType, file: GgufFile
) -> dict[str, Callable[[], Blocks | np.ndarray]]:
    """The canonical weights, each read by a call: matrices and the embedding of tokens as blocks, others as float32.

    Every name and shape is checked before a number is read. Raises ValueError that names file and tensor.
    """
    if config.n_layers > len(file.tensors):
        raise ValueError(f"{file.path}: {config.n_layers} layers, but there are only {len(file.tensors)} tensors")
    shapes = weight_shapes(config)
    table = weight_table(config)
    places = architecture.places(config)
    expected = {name for place in places.values() for name in place.names} | architecture.BESIDE
    for name in file.tensors:
        if name not in expected and not architecture.SKIPPED.fullmatch(name):
            raise ValueError(
                f"{file.path}: unexpected tensor {name!r}: {architecture.READS}; the configuration has no such weight"
            )
    tensors = {name: _tensors(name, places[name], table[name], file) for name in shapes}
    return {name: partial(_array, places[name], table[name], *found) for name, found in tensors.items()}


def gguf_tensors(config: ModelConfig, architecture: ModuleType) -> dict[str, tuple[tuple[int, ...], list[str]]]:
    """The tensors to write: by name, the shape of each and the canonical weights that it is made of, in order."""
    places, table, tensors = architecture.places(config), weight_table(config), {}
    for name in weight_shapes(config):
        for tensor, shape in places[name].shapes(table[name]).items():
            tensors.setdefault(tensor, (shape, []))[1].append(name)
    return tensors


def gguf_array(
    config: ModelConfig,
    places: Mapping[str, Place | Absorbed],
    weights: Mapping[str, np.ndarray],
    tensor: str,
    names: list[str],
) -> np.ndarray:
    """A tensor to write, by its name, from its canonical weights: float32, contiguous."""
    table = weight_table(config)
    rows = [weights[name].swapaxes(-2, -1) if table[name].is_matrix else weights[name] for name in names]
    rows = [places[name].put(array, tensor) for name, array in zip(names, rows, strict=True)]
    return np.ascontiguousarray(rows[0] if len(rows) == 1 else np.concatenate(rows), np.float32)


def _tensors(ours, place, weight, file) -> list[GgufTensor]:
    """The tensors that hold a weight, in the order of the place; checked."""
    shapes = place.shapes(weight)
    if isinstance(place, Absorbed) and place.whole in file.tensors:
        shapes = {place.whole: rows_shape(weight)}
    for name, shape in shapes.items():
        if name not in file.tensors:
            raise ValueError(f"{file.path}: missing tensor {name!r} of shape {shape} ({ours})")
        if file.tensors[name].shape != shape:
            raise ValueError(f"{file.path}: tensor {name!r} must have shape {shape}, got {file.tensors[name].shape}")
    return [file.tensors[name] for name in shapes]


def _array(place, weight, tensor, *more):
    if more:  # the rows of one become columns, which blocks cannot
        rows = place.joined(tensor.dequantised(), more[0].dequantised())
        return Blocks("F32", rows.shape, rows.view(np.uint8))
    if isinstance(place, Absorbed):
        return Blocks(tensor.block_type, tensor.shape, tensor.data)
    if weight.is_matrix or weight.role == "embedding":
        return Blocks(tensor.block_type, rows_shape(weight), place.take(tensor.data))
    if len(tensor.shape) == 1:
        return place.take(tensor.dequantised())
    return dequantise(place.take(tensor.data), tensor.block_type)


def _turned(rows, heads, pairs, first):
    """Rows of heads whose two axes, named by the sizes `pairs` (one of them 2), are exchanged behind the first rows."""
    turned = np.array(rows).reshape(heads, -1, *rows.shape[1:])  # a copy, no view of a file, and no np.memmap
    rotated = turned[:, first:]
    rotated[:] = rotated.reshape(heads, *pairs, *rows.shape[1:]).swapaxes(1, 2).reshape(rotated.shape)
    return turned.reshape(rows.shape)
