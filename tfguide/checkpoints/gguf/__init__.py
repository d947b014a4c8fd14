"""GGUF files, the format of llama.cpp, read into canonical weights and written from them."""

from tfguide.checkpoints.gguf.blocks import Blocks
from tfguide.checkpoints.gguf.container import GgufFile, GgufTensor, find_gguf, is_gguf, open_gguf
from tfguide.checkpoints.gguf.reading import read_blocks, read_gguf
from tfguide.checkpoints.gguf.writing import write_gguf

__all__ = [
    "Blocks",
    "GgufFile",
    "GgufTensor",
    "find_gguf",
    "is_gguf",
    "open_gguf",
    "read_blocks",
    "read_gguf",
    "write_gguf",
]
