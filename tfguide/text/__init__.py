"""Text in and out of a model: its tokenizer, and characters as they come; imports no framework."""

from tfguide.text.streams import pieces
from tfguide.text.tokenizer import read_tokenizer

__all__ = ["pieces", "read_tokenizer"]
