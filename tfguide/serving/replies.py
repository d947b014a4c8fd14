"""What clients get: the objects of completions and of chats, whole or in chunks, with usage and log probabilities."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tfguide.serving.request import Finish, Likely
from tfguide.text.spelling import Spelling

LEAST_LOGPROB = -9999.0  # of a token that is impossible: JSON has no infinity
Entry = tuple[int, Likely | None]  # a token, and its log probability, which the first one of a text does not have


@dataclass(frozen=True)
class Usage:
    """The tokens of a request: those of its prompts, how many of them came from the cache, and the new ones."""

    prompt: int
    cached: int
    new: int

    @property
    def body(self) -> dict[str, Any]:
        """As an object of JSON."""
        return {
            "prompt_tokens": self.prompt, "completion_tokens": self.new, "total_tokens": self.prompt + self.new,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }  # fmt: skip


class Offsets:
    """Where in a text each of its tokens begins, counted in characters; one within a character begins where it does."""

    def __init__(self, spelling: Spelling):
        self._spelling, self._decode = spelling, codecs.getincrementaldecoder("utf-8")("replace").decode
        self._n_characters = 0

    def __call__(self, token: int) -> int:
        """The place of the next token."""
        start = self._n_characters
        if not self._spelling.is_special(token):
            self._n_characters += len(self._decode(self._spelling(token)[1]))
        return start


class Completions:
    """How a completion is written."""

    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    @staticmethod
    def choice(text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """What a choice has, beside its index and why it ended."""
        return {"text": text, "logprobs": logprobs}

    @staticmethod
    def piece(text: str, logprobs: dict[str, Any] | None, is_first: bool) -> dict[str, Any]:
        """What a choice of a chunk has."""
        return {"text": text, "logprobs": logprobs}

    @staticmethod
    def logprobs(spelling: Spelling, entries: Iterable[Entry], offsets: Offsets) -> dict[str, Any]:
        """The log probabilities of tokens: four lists. A token of bytes that are no character is written as bytes."""
        tokens, values, tops, places = [], [], [], []
        for token, likely in entries:
            tokens.append(_name(spelling, token))
            places.append(offsets(token))
            values.append(None if likely is None else _finite(likely.logprob))
            top = None
            if likely is not None:
                top = {_name(spelling, other): _finite(value) for other, value in likely.top}
                top.setdefault(tokens[-1], values[-1])
            tops.append(top)
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": places}


class Chats:
    """How the answer in a chat is written."""

    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    @staticmethod
    def choice(text: str, logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """What a choice has, beside its index and why it ended."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}, "logprobs": logprobs}

    @staticmethod
    def piece(text: str, logprobs: dict[str, Any] | None, is_first: bool) -> dict[str, Any]:
        """What a choice of a chunk has: the first one says who speaks."""
        role = {"role": "assistant"} if is_first else {}
        return {"delta": role | ({"content": text} if text or is_first else {}), "logprobs": logprobs}

    @staticmethod
    def logprobs(spelling: Spelling, entries: Iterable[Entry], offsets: Offsets) -> dict[str, Any]:
        """The log probabilities of tokens: an object for each."""
        found = []
        for token, likely in entries:
            top = [_spelled(spelling, other, value) for other, value in likely.top]
            found.append({**_spelled(spelling, token, likely.logprob), "top_logprobs": top})
        return {"content": found, "refusal": None}


Shape = type[Completions] | type[Chats]


@dataclass(frozen=True)
class Reply:
    """The objects of one answer, which have its `id`, the time when it was asked for and the name of the model."""

    shape: Shape
    id: str
    created: int
    model: str

    def whole(self, choices: Sequence[dict[str, Any]], usage: Usage) -> dict[str, Any]:
        """The answer as a whole."""
        return {**self._head(self.shape.whole), "choices": choices, "usage": usage.body}

    def chunk(self, choices: Sequence[dict[str, Any]], usage: Usage | None = None) -> dict[str, Any]:
        """A part of the answer."""
        return {**self._head(self.shape.part), "choices": choices, "usage": None if usage is None else usage.body}

    def _head(self, kind):
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def ended(choice: dict[str, Any], index: int, finish: Finish | None) -> dict[str, Any]:
    """A choice with its index, and why it ended; None: it goes on."""
    return {"index": index, **choice, "finish_reason": None if finish is None else finish.value}


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _name(spelling: Spelling, token: int) -> str:
    text, data = spelling(token)
    return text if data == text.encode() else "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _spelled(spelling: Spelling, token: int, logprob: float) -> dict[str, Any]:
    text, data = spelling(token)
    return {"token": text, "logprob": _finite(logprob), "bytes": list(data)}
