"""Folders as Hugging Face writes them and GGUF files: read into canonical weights, and back.

`reading.FAMILIES` has a module for each family of folders, `gguf.reading.ARCHITECTURES` one for each kind of file.
"""

from tfguide.checkpoints.gguf import (
    Blocks,
    GgufFile,
    GgufTensor,
    find_gguf,
    is_gguf,
    open_gguf,
    read_blocks,
    read_gguf,
    write_gguf,
)
from tfguide.checkpoints.quantized import is_quantized, read_quantized, write_quantized
from tfguide.checkpoints.reading import read_checkpoint
from tfguide.checkpoints.writing import write_checkpoint

__all__ = [
    "Blocks",
    "GgufFile",
    "GgufTensor",
    "find_gguf",
    "is_gguf",
    "is_quantized",
    "open_gguf",
    "read_blocks",
    "read_checkpoint",
    "read_gguf",
    "read_quantized",
    "write_checkpoint",
    "write_gguf",
    "write_quantized",
]
