"""Put a decoder together from weights in memory or in files: as numbers, as packed integers, or as blocks of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from tfguide.checkpoints.bits import from_bfloat16
from tfguide.checkpoints.gguf import Blocks
from tfguide.checkpoints.tensors import from_float32
from tfguide.compress.packing import aligned
from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import array_names, pack_weights, quantized_weights
from tfguide.config import ModelConfig
from tfguide.native.linear import Matrix
from tfguide.native.model import ArrayDecoder
from tfguide.native.stored import matrix_of_blocks
from tfguide.native.tensors import in_place
from tfguide.weights import vector_names, weight_table

EMBEDDING = "embedding.token.weight"


class Weight(Protocol):
    """A canonical weight that is not read yet; see `tfguide.checkpoints.layout.Stored`."""

    @property
    def dtype(self) -> str:
        """The type in which the file holds it."""

    def mapped(self) -> np.ndarray:
        """The weight as a view of the file."""

    def to_float32(self, keeps_order: bool = False) -> np.ndarray:
        """The weight as a float32 array."""


def from_weights(config: ModelConfig, weights: Mapping[str, Weight], dtype: str, threads: int) -> ArrayDecoder:
    """A decoder with the canonical weights in one type; "int8" and "int4" quantise, with 8-bit activations."""
    if dtype in ("int8", "int4"):
        quantization = Quantization(int(dtype.removeprefix("int")), activation_bits=8)

        def weight_of(name):
            tied = name == "head.weight" and config.tied_head
            return weights[EMBEDDING].to_float32().T if tied else weights[name].to_float32()

        return from_quantized(config, quantization, pack_weights(config, quantization, weight_of), "float32", threads)

    def vector(name):  # a framework rounds vectors to the type of its model, too
        return to_float32(from_float32(weights[name].to_float32(), dtype)) if name in weights else None

    def matrix(name):
        weight, bias = weights[name], vector(name.removesuffix("weight") + "bias")
        if weight.dtype == dtype:
            mapped = weight.mapped()
            return _rows(mapped) if name == EMBEDDING else _columns(mapped, bias)
        numbers = weight.to_float32(keeps_order=True)
        rows = aligned(from_float32(numbers if name == EMBEDDING else numbers.T, dtype))
        return _rows(rows, bias)

    def stack(name):
        weight, bias = weights[name], vector(name.removesuffix("weight") + "bias")
        numbers = weight.mapped() if weight.dtype == dtype else weight.to_float32(keeps_order=True)
        for e, own in enumerate(numbers):
            part = own if weight.dtype == dtype else from_float32(own.T, dtype).T
            yield f"{name.removesuffix('.weight')}.{e}", _columns(part, None if bias is None else bias[e])

    matrices = _matrices(config, matrix, stack)
    vectors = {name: vector(name) for name in vector_names(config)}
    return ArrayDecoder(config, matrix(EMBEDDING), matrices, vectors, threads, dtype)


def from_quantized(
    config: ModelConfig, quantization: Quantization, arrays: Mapping[str, np.ndarray], dtype: str, threads: int
) -> ArrayDecoder:
    """A decoder with the arrays of a quantised model by name; dtype: of its other weights.

    See `tfguide.compress.quantized.quantized_shapes`.
    """
    rounds = quantization.activation_bits is not None
    others = {name: from_float32(array, dtype) for name, array in arrays.items() if name in weight_table(config)}
    vectors = {name: to_float32(array) for name, array in others.items() if name != EMBEDDING}
    matrices = {}
    for name, weight in quantized_weights(config).items():
        if weight.is_compressed:
            path = name.removesuffix(".weight")
            parts, bias = [arrays[part] for part in array_names(path, quantization)], vectors.get(f"{path}.bias")
            stacked = zip(*parts, strict=True) if weight.is_routed else [parts]
            for e, own in enumerate(stacked):
                packed, scale, *unit = map(aligned, own)
                key, numbers = (f"{path}.{e}", bias if bias is None else bias[e]) if weight.is_routed else (path, bias)
                matrices[key] = Matrix.of_packed(packed, scale, *weight.shape[-2:], rounds, numbers, *unit)
    embedding = _rows(aligned(others[EMBEDDING]))
    vectors = {name: vectors[name] for name in vector_names(config)}
    return ArrayDecoder(config, embedding, matrices, vectors, threads, dtype, quantization)


def from_blocks(config: ModelConfig, arrays: Mapping[str, Blocks | np.ndarray], threads: int) -> ArrayDecoder:
    """A decoder with the blocks of a GGUF file, as `read_blocks` returns them.

    The type of its cache is float16 where a matrix has less than 16 bits, else the type of the embedding.
    """

    def matrix(name):
        return matrix_of_blocks(arrays[name], arrays.get(name.removesuffix("weight") + "bias"), threads)

    def stack(name):
        blocks, bias = arrays[name], arrays.get(name.removesuffix("weight") + "bias")
        for e, rows in enumerate(blocks.data):
            own = Blocks(blocks.block_type, blocks.shape[1:], rows)
            yield (
                f"{name.removesuffix('.weight')}.{e}",
                matrix_of_blocks(own, bias if bias is None else bias[e], threads),
            )

    def vector(name):  # a router is small, and its rows are those of the file
        return arrays[name].dequantised().T if isinstance(arrays[name], Blocks) else arrays[name]

    embedding = matrix(EMBEDDING)
    matrices = _matrices(config, matrix, stack)
    vectors = {name: vector(name) for name in vector_names(config)}
    dtype = "float32" if embedding.is_packed else embedding.format.split()[0]
    small = any(each.is_packed for each in (embedding, *matrices.values()))
    return ArrayDecoder(config, embedding, matrices, vectors, threads, dtype, small=small)


def _matrices(config, matrix, stack) -> dict[str, Matrix]:
    """The matrices of linear layers by their paths; `stack` gives those of the experts."""
    matrices = {}
    for name, weight in weight_table(config).items():
        if weight.is_compressed and weight.is_routed:
            matrices |= stack(name)
        elif weight.is_compressed:
            matrices[name.removesuffix(".weight")] = matrix(name)
    return matrices


def to_float32(array: np.ndarray) -> np.ndarray:
    """Numbers of 32 or 16 bits as float32; uint16 is the bits of bfloat16."""
    if array.dtype == np.uint16:
        return from_bfloat16(array)
    return np.asarray(array, np.float32)


def _columns(weight, bias=None):
    """A matrix of a weight (in, out), which may be a view of rows (out, in)."""
    if weight.T.flags.c_contiguous:
        return _rows(weight.T, bias)
    return Matrix.of(in_place(weight, weight.itemsize), "columns", bias)


def _rows(rows, bias=None):
    return Matrix.of(in_place(rows, rows.itemsize), "rows", bias)
