"""From a GGUF file to a configuration and its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np

from tfguide.checkpoints.fields import as_keys
from tfguide.checkpoints.gguf import bert, deepseek2, gemma3, gpt2, gpt_oss, llama, phi3, qwen2, qwen3, qwen3moe
from tfguide.checkpoints.gguf.blocks import Blocks
from tfguide.checkpoints.gguf.container import GgufFile, open_gguf
from tfguide.checkpoints.gguf.keys import fields_of
from tfguide.checkpoints.gguf.layout import open_arrays
from tfguide.config import ModelConfig
from tfguide.weights import weight_table

ARCHITECTURES: dict[str, ModuleType] = {
    module.ARCHITECTURE: module
    for module in (qwen2, qwen3, qwen3moe, gemma3, llama, phi3, deepseek2, gpt_oss, gpt2, bert)
}


def read_gguf(path: str | os.PathLike, ignore: Sequence[str] = ()) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The configuration and the canonical float32 weights of a GGUF file, dequantised.

    path: the file, or a folder that holds one, of an architecture in `ARCHITECTURES`. ignore: keys of the
    metadata to treat as absent, where you know that they do not matter.

    A key that llama.cpp reads and that would make a difference is an error; one that it does not read is passed over
    with a warning. The special tokens are those of the tokeniser's metadata.

    Raises ValueError for a file that is corrupt, for an architecture, keys and values that are not supported, and for
    tensors that are missing, unexpected or of another shape than expected; FileNotFoundError and TypeError for the
    arguments; ImportError where the package `gguf` is needed to dequantise and missing.
    """
    config, arrays = read_blocks(open_gguf(path), ignore)
    table = weight_table(config)
    weights = {}
    for name in list(arrays):
        array = arrays.pop(name)
        rows = array.dequantised() if isinstance(array, Blocks) else array
        weights[name] = rows.swapaxes(-2, -1) if table[name].is_matrix else rows
    return config, weights


def read_blocks(file: GgufFile, ignore: Sequence[str] = ()) -> tuple[ModelConfig, dict[str, Blocks | np.ndarray]]:
    """The configuration of an open file, and its weights by canonical names, in the types of the file.

    The matrices of linear layers and the embedding of tokens are `Blocks` (out, in), mapped from the file; queries and
    keys whose rows llama.cpp has in another order are copies, in the canonical order. All others are float32 arrays.
    A tied head has no row. Raises as `read_gguf`.
    """
    config, stored = open_blocks(file, ignore)
    return config, {name: read() for name, read in stored.items()}


def open_blocks(
    file: GgufFile, ignore: Sequence[str] = ()
) -> tuple[ModelConfig, dict[str, Callable[[], Blocks | np.ndarray]]]:
    """The configuration of an open file, and functions that read its weights, as `read_blocks` has them.

    Every name and shape is checked before a number is read. Raises as `read_gguf`.
    """
    ignore = as_keys(ignore)
    if file.architecture not in ARCHITECTURES:
        raise ValueError(
            f"{file.path}: general.architecture={file.architecture!r} is not supported, "
            f"expected one of {', '.join(ARCHITECTURES)}"
        )
    architecture = ARCHITECTURES[file.architecture]
    fields = fields_of(file, ignore)
    with fields.named_errors():
        config = architecture.config_from_gguf(fields, file)
    return config, open_arrays(config, architecture, file)
