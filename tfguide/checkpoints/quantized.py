"""Folders of quantised models, in a layout of this package, which transformers rejects as an unknown model."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping

import numpy as np
from safetensors.numpy import save_file

from tfguide.checkpoints.folder import CONFIG, WEIGHTS, as_folder, as_path, read_object
from tfguide.checkpoints.swap import replacing
from tfguide.checkpoints.tensors import Tensor, read_headers
from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import quantized_shapes
from tfguide.config import ModelConfig
from tfguide.temporary import sync

MODEL_TYPE = "tfguide-quantized"


def is_quantized(folder: str | os.PathLike) -> bool:
    """Whether a folder was written by `write_quantized`."""
    return read_object(as_folder(folder) / CONFIG).get("model_type") == MODEL_TYPE


def write_quantized(
    folder: str | os.PathLike,
    config: ModelConfig,
    quantization: Quantization,
    arrays: Mapping[str, np.ndarray],
    overwrite: bool = False,
) -> None:
    """Write a quantised model: config.json, and the arrays of `quantized_shapes` in model.safetensors.

    Written to a new folder and renamed, as in `write_checkpoint`. Raises FileExistsError, NotADirectoryError.
    """
    fields = {"model_type": MODEL_TYPE, "config": config.to_dict(), "quantization": dataclasses.asdict(quantization)}
    with replacing(as_path(folder), overwrite) as temporary:
        (temporary / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        sync(temporary / CONFIG)
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod((temporary / CONFIG).stat().st_mode)
        sync(temporary / WEIGHTS)


def read_quantized(folder: str | os.PathLike) -> tuple[ModelConfig, Quantization, dict[str, np.ndarray]]:
    """Read a folder of `write_quantized`: the configuration, the quantisation and the arrays by name.

    Raises ValueError if a file or a tensor is missing, unexpected or damaged.
    """
    config, quantization, tensors = open_quantized(folder)
    return config, quantization, {name: np.array(tensor.stored()) for name, tensor in tensors.items()}


def open_quantized(folder: str | os.PathLike) -> tuple[ModelConfig, Quantization, dict[str, Tensor]]:
    """The configuration and the quantisation of a folder, and its arrays in their file, which are not read yet.

    Raises as `read_quantized`.
    """
    folder = as_folder(folder)
    fields = read_object(folder / CONFIG)
    try:
        config = ModelConfig.from_dict(fields["config"])
        quantization = Quantization(**{"asymmetric": False, **fields["quantization"]})  # older folders lack the key
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / CONFIG}: not a quantised model of this package: {error}") from error
    if not (folder / WEIGHTS).exists():
        raise FileNotFoundError(f"no weights in {folder}: looked for {WEIGHTS}")
    tensors = read_headers(folder / WEIGHTS)
    expected = quantized_shapes(config, quantization)
    for name in [*expected, *tensors]:
        if name not in tensors or name not in expected:
            raise ValueError(f"{folder / WEIGHTS}: {'no' if name in expected else 'unexpected'} tensor {name!r}")
        tensor, (shape, dtype) = tensors[name], expected[name]
        if tensor.shape != shape or tensor.dtype_name != dtype:
            raise ValueError(
                f"{folder / WEIGHTS}: tensor {name!r} must be {dtype} {shape}, got {tensor.dtype_name} {tensor.shape}"
            )
    return config, quantization, tensors
