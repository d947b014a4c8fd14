"""Text in and out of a model: its tokenizer, characters as they come, and their speed; imports no framework."""

from tfguide.text.counted import Counted
from tfguide.text.streams import pieces
from tfguide.text.tokenizer import read_tokenizer

__all__ = ["Counted", "pieces", "read_tokenizer"]
