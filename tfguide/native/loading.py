"""Load a decoder for the C++ kernels alone, without a framework, from a GGUF file or a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checkpoints.folder import as_path
from tfguide.checkpoints.gguf import Blocks, GgufFile, is_gguf, open_gguf, read_blocks
from tfguide.checkpoints.quantized import is_quantized, read_quantized
from tfguide.checkpoints.reading import open_checkpoint
from tfguide.checks.values import check_choice, check_count
from tfguide.dtypes import WEIGHT_DTYPES
from tfguide.native.assembly import from_blocks, from_quantized, from_weights
from tfguide.native.blocks import PLAIN
from tfguide.native.decoder import check
from tfguide.native.library import library
from tfguide.native.machine import default_threads
from tfguide.native.model import ArrayDecoder
from tfguide.native.tensors import NUMPY_TYPES
from tfguide.weights import weight_table


def load(
    path: str | os.PathLike | GgufFile,
    dtype: str | None = None,
    ignore: Sequence[str] = (),
    threads: int | None = None,
) -> ArrayDecoder:
    """The decoder in a checkpoint, computed by the C++ kernels alone: neither PyTorch nor TensorFlow is imported.

    path: as for `load_checkpoint` of a framework: a GGUF file or a folder with one, a folder of Hugging Face, or a
    quantised folder of this package; also a GGUF file that is open. dtype: "float32", "bfloat16" or "float16" converts
    the weights, "int8" and "int4" quantise them, with 8-bit activations; default: the blocks of a GGUF file as they
    are, the integers of a quantised folder, else float32. Weights that a file holds in the wanted type are mapped, not
    copied. ignore: keys of the configuration to skip, as for `load_checkpoint`. threads: default: TFGUIDE_THREADS, or
    all cores that the process may use.

    Activations have 8 bits where blocks have 8 bits or less. Blocks of a type that the kernels do not multiply become
    float32. A quantised folder keeps its integers, and `dtype` is that of its other weights, by default float32.

    Raises UnsupportedModel (a ValueError) for an encoder, an encoder-decoder and a model with relative positions;
    NativeUnavailable where the kernels cannot be built; ValueError, TypeError, OSError and ImportError as
    `load_checkpoint`.
    """
    if dtype is not None:
        check_choice("dtype", dtype, WEIGHT_DTYPES)
    threads = default_threads() if threads is None else check_count("threads", threads)
    if isinstance(path, GgufFile) or is_gguf(as_path(path)):
        config, arrays = read_blocks(path if isinstance(path, GgufFile) else open_gguf(path), ignore)
        _check(config)
        if dtype is None:
            return from_blocks(config, arrays, threads)
        table = weight_table(config)
        weights = {name: _Rows(array, table[name].is_matrix) for name, array in arrays.items()}
        return from_weights(config, weights, dtype, threads)
    if is_quantized(path):
        if dtype in ("int8", "int4"):
            raise ValueError(f"the model in {path} is quantised already")
        config, quantization, packed = read_quantized(path)
        _check(config)
        return from_quantized(config, quantization, packed, dtype or "float32", threads)
    config, stored = open_checkpoint(path, ignore)
    _check(config)
    return from_weights(config, stored, dtype or "float32", threads)


def _check(config):
    """Raise what `load` raises for a model that cannot be run, before its weights are read."""
    check(config)
    library()


@dataclass(frozen=True)
class _Rows:
    """A weight of a GGUF file, as `tfguide.checkpoints.layout.Stored` is one of a folder."""

    rows: Blocks | np.ndarray
    is_matrix: bool

    @property
    def dtype(self) -> str:
        if isinstance(self.rows, Blocks):
            return PLAIN.get(self.rows.block_type, self.rows.block_type)
        return "float32"

    def mapped(self) -> np.ndarray:
        rows = self.rows.data.view(NUMPY_TYPES[self.dtype]) if isinstance(self.rows, Blocks) else self.rows
        return rows.T if self.is_matrix else rows

    def to_float32(self, keeps_order: bool = False) -> np.ndarray:
        rows = self.rows.dequantised() if isinstance(self.rows, Blocks) else self.rows
        return rows.T if self.is_matrix else rows
