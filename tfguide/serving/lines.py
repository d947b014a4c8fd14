"""The lines of a batch: what one asks for, and how it is answered.

A line is an object of JSON: one of our own, {"prompt": ...} or {"messages": ...} with settings beside it, or one of
OpenAI's batch files, {"custom_id", "method", "url", "body"}, which has the same in its body and is answered in their
form.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tfguide.checks.values import check_count, nearest
from tfguide.generation.sampling import Sampling
from tfguide.serving.answer import Answer
from tfguide.serving.request import Request
from tfguide.text.chat import ends_of_message
from tfguide.text.stops import StopStrings
from tfguide.text.template import ChatTemplate

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
_SAMPLING = [field.name for field in dataclasses.fields(Sampling)]
_SETTINGS = ("max_tokens", "max_completion_tokens", *_SAMPLING, "stop", "stop_token_ids", "ignore_eos", "n")
_ENVELOPE = ("custom_id", "method", "url", "body")
#: Fields that would change a text, with the values that do not. Others of OpenAI's bodies are passed over, as by its
#: servers; in a line of our own an unknown one is a mistake.
_NEUTRAL = {
    "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}, "echo": False, "logprobs": False, "best_of": 1,
    "suffix": "", "tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "top_logprobs": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What a line asks for. number: from 1. url: of OpenAI's form, None for one of our own. stop: strings."""

    number: int
    id: Any
    url: str | None
    request: Request
    stop: tuple[str, ...] = ()


class LineError(ValueError):
    """A line that cannot be answered. id, url: as in `Line`, as far as they are known."""

    def __init__(self, message: str, id: Any = None, url: str | None = None):
        super().__init__(message)
        self.id, self.url = id, url


@dataclass(frozen=True)
class Settings:
    """The settings of a line that names none, and what it is answered by.

    max_new_tokens: as many as fit, and at most so many. A line without a seed draws with the one of `sampling` plus its
    number, so that equal lines have other answers, and the same ones in every run. stop_tokens: what ends a text;
    default: the model's own, and for messages the token with which the template ends one. model: its name; types: those
    of its weights and of its cache, as far as they were named.
    """

    max_new_tokens: int
    sampling: Sampling
    stop_tokens: tuple[int, ...] | None = None
    model: str = ""
    types: tuple[str | None, ...] = ()

    def digest(self, text: bytes) -> str:
        """16 hexadecimal digits of a line and of the settings: an answer with other ones belongs to something else."""
        settings = [self.model, self.types, self.max_new_tokens, dataclasses.asdict(self.sampling), self.stop_tokens]
        key = hashlib.sha256(json.dumps(settings).encode()).digest()
        return hashlib.blake2b(text, digest_size=8, key=key).hexdigest()


@dataclass(frozen=True)
class Reader:
    """What reads lines.

    eos: the tokens with which the model ends a text. max_length: the most positions of a text.
    """

    tokenizer: Any
    template: ChatTemplate | None
    eos: Collection[int]
    max_length: int
    settings: Settings

    @cached_property
    def _ends(self):
        """The tokens that end a text, by whether it answers messages."""
        if self.settings.stop_tokens is not None:
            return dict.fromkeys((False, True), frozenset(self.settings.stop_tokens))
        eos = frozenset(self.eos)
        return {False: eos, True: eos | ends_of_message(self.tokenizer, self.template)}

    def read(self, number: int, text: bytes) -> Line:
        """What a line asks for. Raises LineError, which says what is wrong with it."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:  # also of bytes that are not UTF-8, and of a deep nest
            raise LineError(f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise LineError(f"expected an object of JSON, got {type(fields).__name__}")
        url = None
        try:
            if "body" in fields or "custom_id" in fields:
                name, url = fields.get("custom_id"), str(fields.get("url"))
                fields = _open(fields)
            else:
                name = fields.pop("id", None)
            return self._line(number, name, url, fields)
        except (ValueError, TypeError) as error:
            raise LineError(str(error), name, url) from error

    def _line(self, number, name, url, fields):
        given = {key: value for key, value in fields.items() if value is not None}
        if given.get("top_k") in (0, -1):  # so other servers say that all tokens are kept
            del given["top_k"]
        ends = frozenset() if given.get("ignore_eos") else self._ends["messages" in given]
        prompt = self._prompt(given.pop("prompt", None), given.pop("messages", None), url)
        _check_fields(given, url)
        most = given.get("max_completion_tokens", given.get("max_tokens"))
        room = max(1, self.max_length - len(prompt) + 1)  # of a prompt that is too long the engine says so
        drawn = {"seed": self.settings.sampling.seed + number} | {key: given[key] for key in _SAMPLING if key in given}
        stop = given.get("stop", ())
        request = Request(
            prompt=prompt,
            max_new_tokens=min(self.settings.max_new_tokens, room) if most is None else check_count("max_tokens", most),
            sampling=dataclasses.replace(self.settings.sampling, **drawn),
            stop_tokens=sorted(ends.union(_read_tokens(given.get("stop_token_ids", [])))),
            n=given.get("n", 1),
        )
        if not isinstance(stop, (str, list, tuple)):
            raise TypeError(f"stop must be a string or a list of strings, got {stop!r}")
        return Line(number, name, url, request, StopStrings([stop] if isinstance(stop, str) else stop).stops)

    def _prompt(self, prompt, messages, url):
        """The tokens of a prompt or of messages."""
        if (prompt is None) == (messages is None):
            raise ValueError("expected either a prompt or messages")
        if (url == CHAT and messages is None) or (url == COMPLETIONS and prompt is None):
            raise ValueError(f"{url} needs {'messages' if url == CHAT else 'a prompt'}")
        if messages is not None:
            if self.template is None:
                raise ValueError("messages need a chat template, which the model lacks: name a prompt")
            text = self.template.render(_read_messages(messages))
            return self.tokenizer.encode(text, add_special_tokens=False).ids
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt).ids
        if not _are_tokens(prompt):
            raise TypeError(f"a prompt must be a string or a list of token ids, one for each line, got {prompt!r:.60}")
        return prompt


def _open(fields):
    """The body of a line in OpenAI's form."""
    if unknown := [key for key in fields if key not in _ENVELOPE]:
        raise ValueError(f"unknown field {unknown[0]!r} beside custom_id, method, url and body")
    url, body = fields.get("url"), fields.get("body")
    if url not in (COMPLETIONS, CHAT):
        raise ValueError(f"url must be {COMPLETIONS} or {CHAT}, got {url!r}")
    if fields.get("method", "POST") != "POST":
        raise ValueError(f"method must be POST, got {fields['method']!r}")
    if not isinstance(fields.get("custom_id"), str):
        raise TypeError(f"custom_id must be a string, got {fields.get('custom_id')!r}")
    if not isinstance(body, dict):
        raise TypeError(f"body must be an object of JSON, got {type(body).__name__}")
    return body


def _check_fields(given, url):
    """Raises ValueError for a field that would change an answer and is not supported."""
    for name, value in given.items():
        if name in _NEUTRAL:
            if value != _NEUTRAL[name] or isinstance(value, bool) != isinstance(_NEUTRAL[name], bool):
                raise ValueError(f"{name}={value!r:.60} is not supported in a batch")
        elif name not in _SETTINGS and url is None:
            raise ValueError(f"unknown field {name!r}{nearest(name, _SETTINGS)}")


def _are_tokens(value):
    return isinstance(value, list) and all(type(token) is int for token in value)


def _read_tokens(tokens):
    """Token ids, as they were given. Raises TypeError for anything else."""
    if not _are_tokens(tokens):
        raise TypeError(f"stop_token_ids must be a list of token ids, got {tokens!r:.60}")
    return tokens


def _read_messages(messages):
    """Messages whose contents are strings: parts begin on lines of their own. Raises TypeError and ValueError."""
    if not isinstance(messages, list) or not messages:
        raise TypeError(f"messages must be a list of objects with role and content, got {messages!r:.60}")
    found = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise TypeError(f"a message must be an object with role and content, got {message!r:.60}")
        content = message.get("content")
        if isinstance(content, list):
            content = "\n".join(_text_of(part) for part in content)
        if not isinstance(content, str):
            raise TypeError(f"the content of a message must be a string or a list of parts, got {content!r:.60}")
        found.append(message | {"content": content})
    return found


def _text_of(part):
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise ValueError(f"a part of a content must be a text, got {part!r:.60}")
    return part["text"]


def answer_of(line: Line, digest: str, model: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """The line that answers a line: {"line", "id", "input", "choices", "usage"}, or OpenAI's form with "line", "input".

    answers: that have ended, one for each choice.
    """
    n_prompt, n_new = len(line.request.prompt), sum(answer.n_tokens for answer in answers)
    usage = {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}
    choices = [_choice(i, answer, line.url) for i, answer in enumerate(answers)]
    if line.url is None:
        return _head(line.number, digest, line.id, None) | {"choices": choices, "usage": usage}
    kind, start = ("chat.completion", "chatcmpl") if line.url == CHAT else ("text_completion", "cmpl")
    body = {"id": f"{start}-{digest}-{line.number}", "object": kind, "created": int(time.time()), "model": model}
    response = {"status_code": 200, "request_id": f"{digest}-{line.number}"}
    response["body"] = body | {"choices": choices, "usage": usage}
    return _head(line.number, digest, line.id, line.url) | {"response": response, "error": None}


def error_of(number: int, digest: str, id: Any, url: str | None, message: str) -> dict[str, Any]:
    """The line that stands for a line without an answer; "error" says why, in OpenAI's form {"code", "message"}."""
    head = _head(number, digest, id, url)
    if url is None:
        return head | {"error": message}
    return head | {"response": None, "error": {"code": "invalid_request", "message": message}}


def _head(number, digest, name, url) -> Mapping[str, Any]:
    head = {"line": number, "input": digest}
    if url is not None:
        return head | {"id": f"batch_req_{digest}-{number}", "custom_id": name}
    return head if name is None else head | {"id": name}


def _choice(i, answer, url):
    choice: dict[str, Any] = {"index": i, "finish_reason": answer.finish.value}
    if url == CHAT:
        return choice | {"message": {"role": "assistant", "content": answer.text}}
    choice["text"] = answer.text
    return choice if url is not None else choice | {"completion_tokens": answer.n_tokens}
