"""A model from a folder, for a caller who names the framework and the type of the weights.

No framework is imported before its name is given.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from tfguide.checks.values import check_choice
from tfguide.compress import Quantization
from tfguide.native import NativeUnavailable

FRAMEWORKS = ("torch", "tensorflow")
DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")


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
    """The model in a checkpoint folder, with weights of one of DTYPES.

    framework: what `load_framework` returned. dtype: int8 and int4 are quantised while they are read, with activations
    of 8 bits; default: float32, and a quantised folder as it is. ignore: see `load_checkpoint`.
    Raises ValueError and TypeError for an unknown type, and what `load_checkpoint` raises.
    """
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    if dtype in ("int8", "int4"):
        quantization = Quantization(int(dtype.removeprefix("int")), activation_bits=8)
        return framework.load_checkpoint(folder, ignore, quantization=quantization)
    return framework.load_checkpoint(folder, ignore, dtype=dtype or "float32")


def try_accelerate(framework: ModuleType, model: Any) -> Any:
    """The fast version of a model, or the model itself where there is none.

    The C++ kernels compute decoders without relative positions. Warns (UserWarning) where they cannot be built here.
    """
    if model.config.kind != "decoder" or model.config.positions == "relative":
        return model
    try:
        return framework.accelerate(model)
    except NativeUnavailable as error:
        warnings.warn(f"going on without the C++ kernels: {error}", stacklevel=2)
        return model
