"""Text in and out of a model: tokenizer, chat template, conversation, characters as they come; imports no framework."""

from tfguide.text.chat import Conversation, Turn
from tfguide.text.counted import Counted
from tfguide.text.streams import pieces
from tfguide.text.template import ChatTemplate
from tfguide.text.tokenizer import read_template, read_tokenizer
from tfguide.text.vocabulary import tokenizer_from_metadata

__all__ = [
    "ChatTemplate", "Conversation", "Counted", "Turn", "pieces", "read_template", "read_tokenizer",
    "tokenizer_from_metadata",
]  # fmt: skip
