"""Folders to what a model is made of, and models to folders: the part that belongs to no framework."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from tfguide.checkpoints.quantized import is_quantized, read_quantized, write_quantized
from tfguide.checkpoints.reading import read_checkpoint
from tfguide.checkpoints.writing import write_checkpoint
from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import pack_checkpoint
from tfguide.compress.weighted import Weighted
from tfguide.config import ModelConfig
from tfguide.weights import check_dtype


def read_model(
    folder: str | os.PathLike, ignore: Sequence[str], dtype: str, quantization: Quantization | None
) -> tuple[ModelConfig, Quantization | None, dict[str, np.ndarray]]:
    """The configuration, the quantisation or None, and the arrays of a model; see `load_checkpoint`."""
    check_dtype(dtype)
    if not (quantization is None or isinstance(quantization, Quantization)):
        raise TypeError(f"quantization must be a Quantization or None, got {type(quantization).__name__}")
    if is_quantized(folder):
        if quantization is not None:
            raise ValueError(f"the model in {folder} is quantised already")
        return read_quantized(folder)
    config, weights = read_checkpoint(folder, ignore)
    if quantization is not None:
        weights = pack_checkpoint(config, weights, quantization)
    return config, quantization, weights


def save_checkpoint(model: Weighted, folder: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a model to a folder that `transformers` reads and that gives the same outputs there.

    A quantised model is written in this package's own layout, which `load_checkpoint` reads and `transformers` refuses.

    Raises FileExistsError where the folder holds something, unless `overwrite`; ValueError for a model that none of
    the families can express; see `tfguide.checkpoints.write_checkpoint`.
    """
    if model.quantization is None:
        write_checkpoint(folder, model.config, model.to_weights(), overwrite)
    else:
        write_quantized(folder, model.config, model.quantization, model.to_quantized(), overwrite)
