"""A checkpoint folder as a GGUF file, for llama.cpp beside this package."""

from __future__ import annotations

import os

from tfguide import checkpoints
from tfguide.checkpoints import read_checkpoint

TYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "Q8_0", "int4": "Q4_0"}


def write_gguf(
    folder: str | os.PathLike, file: str | os.PathLike, dtype: str, tokenizer: str | os.PathLike | None = None
) -> None:
    """Write a checkpoint to a GGUF file: float32, bfloat16, float16, int8 (Q8_0) or int4 (Q4_0), the embedding too.

    tokenizer: a file whose tokenizer is written as well; default: none. Norms stay in float32. Raises ValueError for
    another type, and as `tfguide.checkpoints.write_gguf`.
    """
    if dtype not in TYPES:
        raise ValueError(f"dtype must be one of {', '.join(TYPES)}, got {dtype!r}")
    config, weights = read_checkpoint(folder)
    checkpoints.write_gguf(file, config, weights, TYPES[dtype], tokenizer, embedding_type=TYPES[dtype])
