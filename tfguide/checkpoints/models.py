"""Folders and GGUF files to what a model is made of, and back: the part that belongs to no framework."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from tfguide.checkpoints.folder import as_path
from tfguide.checkpoints.gguf import Blocks, is_gguf, open_gguf, read_blocks, read_gguf, write_gguf
from tfguide.checkpoints.quantized import is_quantized, read_quantized, write_quantized
from tfguide.checkpoints.reading import read_checkpoint
from tfguide.checkpoints.writing import write_checkpoint
from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import pack_checkpoint
from tfguide.compress.weighted import Weighted
from tfguide.config import ModelConfig
from tfguide.weights import check_dtype


def read_model(
    folder: str | os.PathLike, ignore: Sequence[str], dtype: str | None, quantization: Quantization | None
) -> tuple[ModelConfig, Quantization | None, dict[str, Blocks | np.ndarray]]:
    """The configuration, the quantisation or None, and the arrays of a model; see `load_checkpoint`.

    The arrays of a GGUF file are those of `read_blocks` if neither `dtype` nor `quantization` is given.
    """
    check_types(dtype, quantization)
    folder = as_path(folder)
    if is_gguf(folder) and dtype is None and quantization is None:
        config, weights = read_blocks(open_gguf(folder), ignore)
    elif is_gguf(folder):
        config, weights = read_gguf(folder, ignore)
    elif not is_quantized(folder):
        config, weights = read_checkpoint(folder, ignore)
    elif quantization is not None:
        raise ValueError(f"the model in {folder} is quantised already")
    else:
        return read_quantized(folder)
    if quantization is not None:
        weights = pack_checkpoint(config, weights, quantization)
    return config, quantization, weights


def check_types(dtype: str | None, quantization: Quantization | None) -> None:
    """Raises ValueError for an unknown type of weights, TypeError for what is no quantisation."""
    if dtype is not None:
        check_dtype(dtype)
    if not (quantization is None or isinstance(quantization, Quantization)):
        raise TypeError(f"quantization must be a Quantization or None, got {type(quantization).__name__}")


def has_blocks(arrays: Mapping[str, Blocks | np.ndarray]) -> bool:
    """Whether some arrays of a model are blocks of a GGUF file."""
    return any(isinstance(array, Blocks) for array in arrays.values())


def save_checkpoint(
    model: Weighted, folder: str | os.PathLike, overwrite: bool = False, family: str | None = None
) -> None:
    """Write a model to a folder that `transformers` reads and that gives the same outputs there.

    A quantised model is written in this package's own layout, which `load_checkpoint` reads and `transformers` refuses.
    Weights in blocks of a GGUF file are written dequantised. family: the name of a family, as in `write_checkpoint`, of
    which a quantised model has none; default: the first that can express the model.

    Raises FileExistsError where the folder holds something, unless `overwrite`; ValueError for a model that none of
    the families can express; see `tfguide.checkpoints.write_checkpoint`.
    """
    if model.quantization is None:
        write_checkpoint(folder, model.config, model.to_weights(), overwrite, family=family)
    else:
        write_quantized(folder, model.config, model.quantization, model.to_quantized(), overwrite)


def save_gguf(
    model: Weighted,
    path: str | os.PathLike,
    block_type: str = "F16",
    tokenizer: str | os.PathLike | None = None,
    embedding_type: str | None = None,
    overwrite: bool = False,
    architecture: str | None = None,
) -> None:
    """Write a model to a GGUF file, which llama.cpp and `load_checkpoint` read.

    block_type: "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1" or "Q4_K", for the matrices; "MXFP4" for those of experts.
    tokenizer: the GGUF file, the tokenizer.json or the folder to take a tokeniser and a chat template from; without
    one, llama.cpp makes no text. embedding_type: of the embedding and the head; default: Q8_0 where `block_type` has 4
    bits, else `block_type`. overwrite: replace a file that is there. architecture: its name in llama.cpp, such as
    "phi3"; default: the first that can express the model.

    A quantised model, or one in blocks, is dequantised first. Raises ValueError for a model that none of the
    architectures can express, FileExistsError; see `tfguide.checkpoints.write_gguf`.
    """
    write_gguf(path, model.config, model.to_weights(), block_type, tokenizer, embedding_type, overwrite, architecture)
