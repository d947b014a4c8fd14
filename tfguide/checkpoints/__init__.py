"""Folders as Hugging Face writes them: bert, gpt2, llama and t5, read into canonical weights and written from them."""

from tfguide.checkpoints.quantized import is_quantized, read_quantized, write_quantized
from tfguide.checkpoints.reading import read_checkpoint
from tfguide.checkpoints.writing import write_checkpoint

__all__ = ["is_quantized", "read_checkpoint", "read_quantized", "write_checkpoint", "write_quantized"]
