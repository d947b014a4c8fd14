"""The pieces of a model that one of several processes holds, read from a checkpoint without the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checkpoints.folder import as_path
from tfguide.checkpoints.gguf import Blocks, is_gguf, open_gguf
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS
from tfguide.checkpoints.gguf.reading import open_blocks
from tfguide.checkpoints.models import check_types
from tfguide.checkpoints.quantized import is_quantized, open_quantized
from tfguide.checkpoints.reading import open_checkpoint
from tfguide.compress import Quantization
from tfguide.compress.cutting import cut_packed, shared_inputs
from tfguide.compress.quantized import array_names, quantized_weights
from tfguide.config import ModelConfig
from tfguide.sharding.cuts import Piece, local_config, part_of, piece_of
from tfguide.weights import Weight, check_weights, weight_table

Index = tuple[slice, ...]


@dataclass(frozen=True)
class Share:
    """What process `rank` of n holds of a model. config: of the whole model; unit: see `piece_of`."""

    config: ModelConfig
    n: int
    rank: int
    unit: int = 1

    @property
    def local(self) -> ModelConfig:
        """The configuration of what this process computes."""
        return local_config(self.config, self.n, self.rank, self.unit)

    @property
    def words(self) -> list[int]:
        """The number of words of each process, in their order."""
        ends = [part_of(self.config, "V", self.n, rank) for rank in range(self.n)]
        return [stop - start for start, stop in ends]

    def piece(self, name: str) -> Piece:
        """The piece of a weight by its name; a tied head has one as well, under the name "head.weight"."""
        return piece_of(self.config, quantized_weights(self.config)[name], self.n, self.rank, self.unit)

    def cut(self, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """This process's pieces of a canonical dictionary. Raises ValueError as `check_weights`."""
        check_weights(self.config, weights)
        return {name: array[self.piece(name).index] for name, array in weights.items()}


def read_share(
    folder: str | os.PathLike, n: int, rank: int, ignore: Sequence[str] = (), dtype: str | None = None,
    quantization: Quantization | None = None,
) -> tuple[Share, Quantization | None, dict[str, Blocks | np.ndarray]]:  # fmt: skip
    """What process `rank` of n holds of a checkpoint: its share, the quantisation, and the arrays of its pieces.

    The arguments after `rank`, and the arrays, are those of `tfguide.checkpoints.models.read_model`. Of a file only the
    pieces are read, but for two cases, in which one matrix at a time is read whole: quantising while reading takes the
    scale of an output from all of its inputs; a block that would be cut is dequantised. The integers and the scales are
    those of the whole model. Raises ValueError as `check_processes` and `load_checkpoint`, and for a quantised folder
    where inputs that share a scale would be cut.
    """
    check_types(dtype, quantization)
    folder = as_path(folder)
    if is_gguf(folder):
        config, stored = open_blocks(open_gguf(folder), ignore)
        if dtype is None and quantization is None:
            return _read_blocks(config, n, rank, stored)
        reads = {name: _dequantising(weight_table(config)[name], read) for name, read in stored.items()}
    elif not is_quantized(folder):
        config, stored = open_checkpoint(folder, ignore)
        reads = {name: lambda index, own=own: own.to_float32(index=index) for name, own in stored.items()}
    elif quantization is not None:
        raise ValueError(f"the model in {folder} is quantised already")
    else:
        return _read_quantized(folder, n, rank)
    share = Share(config, n, rank, shared_inputs(quantization))
    if quantization is None:
        return share, None, {name: read(share.piece(name).index) for name, read in reads.items()}
    return share, quantization, _quantise(share, quantization, reads)


def _read_blocks(config, n, rank, stored):
    """The pieces of a file whose blocks stay blocks, (out, in)."""
    blocks = {name: read() for name, read in stored.items() if name.endswith("down.weight")}
    sizes = [BLOCK_TYPES[NUMBERS[own.block_type]].size for own in blocks.values() if isinstance(own, Blocks)]
    unit = max(sizes, default=1)
    share = Share(config, n, rank, unit if -(-config.d_ff // unit) >= n else 1)
    arrays = {name: _cut_rows(weight_table(config)[name], share.piece(name), read()) for name, read in stored.items()}
    return share, None, arrays


def _cut_rows(weight: Weight, piece: Piece, array: Blocks | np.ndarray):
    """A piece of a weight as a file has it, a matrix as (out, in)."""
    if piece.axis is None:
        return array
    axis, last = piece.axis, len(weight.shape) - 1
    if weight.is_matrix and axis >= last - 1:
        axis = 2 * last - 1 - axis  # of (in, out) the other one
    if isinstance(array, Blocks):
        return array.cut(axis, piece.start, piece.stop)
    return array[(*[slice(None)] * axis, slice(piece.start, piece.stop))]


def _dequantising(weight: Weight, read: Callable[[], Blocks | np.ndarray]) -> Callable[[Index], np.ndarray]:
    """A function from an index to the float32 numbers of that part of a canonical weight."""

    def part(index):
        array = read()
        for axis, own in enumerate(index):
            if own != slice(None):
                array = _cut_rows(weight, Piece(axis, own.start, own.stop), array)
        rows = array.dequantised() if isinstance(array, Blocks) else array
        return rows.swapaxes(-2, -1) if weight.is_matrix else rows

    return part


def _quantise(share, quantization, reads):
    """The packed pieces of weights that are read one after the other."""
    arrays = {}
    for name, weight in quantized_weights(share.config).items():
        piece = share.piece(name)
        if name not in reads:  # a tied head
            array = arrays["embedding.token.weight"].T
            arrays |= _pack(quantization, name, array)
        elif not weight.is_compressed:
            arrays[name] = reads[name](piece.index)
        elif piece.axis != len(weight.shape) - 2:
            arrays |= _pack(quantization, name, reads[name](piece.index))
        else:
            whole = _pack(quantization, name, reads[name](()))
            cut = cut_packed(quantization, list(whole.values()), weight.shape, piece.axis, piece.start, piece.stop)
            arrays |= zip(whole, cut, strict=True)
    return arrays


def _pack(quantization, name, array):
    names = array_names(name.removesuffix(".weight"), quantization)
    return dict(zip(names, quantization.pack_any(name, array), strict=True))


def _read_quantized(folder, n, rank):
    """The pieces of a folder whose matrices are packed."""
    config, quantization, tensors = open_quantized(folder)
    share, arrays = Share(config, n, rank, shared_inputs(quantization)), {}
    for name, weight in quantized_weights(config).items():
        piece = share.piece(name)
        if not weight.is_compressed:
            arrays[name] = np.array(tensors[name].stored()[piece.index])
            continue
        names = array_names(name.removesuffix(".weight"), quantization)
        stored = [np.asarray(tensors[own].stored()) for own in names]
        if piece.axis is not None:
            stored = cut_packed(quantization, stored, weight.shape, piece.axis, piece.start, piece.stop)
        arrays |= zip(names, stored, strict=True)
    return share, quantization, arrays
