"""Folders as Hugging Face writes them: bert, gpt2, llama and t5, read into canonical weights and written from them."""

from tfguide.checkpoints.reading import read_checkpoint
from tfguide.checkpoints.writing import write_checkpoint

__all__ = ["read_checkpoint", "write_checkpoint"]
