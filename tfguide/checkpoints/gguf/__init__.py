"""GGUF files, the format of llama.cpp, read into canonical weights and written from them."""

from tfguide.checkpoints.gguf.container import GgufFile, GgufTensor, find_gguf, is_gguf, open_gguf

__all__ = ["GgufFile", "GgufTensor", "find_gguf", "is_gguf", "open_gguf"]
