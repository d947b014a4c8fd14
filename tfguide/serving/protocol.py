"""What clients send: the bodies of OpenAI's completions and chats, and of requests about tokens.

A field that is null has its default, a field that is not known is ignored, and one that is known and would change the
answer, but is not supported, must have the value that changes nothing.
Source: OpenAI's API reference, and vLLM's for the fields that go beyond it.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tfguide.serving.errors import ApiError
from tfguide.serving.request import MOST_CHOICES, MOST_LOGPROBS

MOST_STOPS, MOST_PROMPTS = 16, 1024
_MOST = 2**31 - 1
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    """An object of JSON with fields of fixed types."""

    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data):
        return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


def _several(value):
    return [value] if isinstance(value, str) else value


def _prompts(value):
    """A list of prompts, each a string or a list of ids."""
    is_id = lambda item: isinstance(item, int) and not isinstance(item, bool)  # noqa: E731
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError("expected a string, a list of token ids, or a list of one of them that is not empty")
    if all(map(is_id, value)):
        return [value]
    if len(value) > MOST_PROMPTS:
        raise ValueError(f"expected at most {MOST_PROMPTS} prompts, got {len(value)}")
    if not all(isinstance(one, str) or (isinstance(one, list) and all(map(is_id, one))) for one in value):
        raise ValueError("expected a string, token ids, or a list that holds nothing but strings or lists of token ids")
    return value


def _text(content):
    """The text of a message: a string, or parts of type text, which begin on lines of their own."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError("expected a string or a list of parts")
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ValueError('expected parts {"type": "text", "text": ...}: this model reads text only')
    return "\n".join(part["text"] for part in content)


Text = Annotated[str, BeforeValidator(_text)]
Stops = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_several), Field(max_length=MOST_STOPS)]


class StreamOptions(Body):
    """What a stream ends with."""

    include_usage: bool = False


class Generation(Body):
    """The fields that completions and chats share. `unsupported`: the fields that must change nothing."""

    model: str | None = None
    max_tokens: int | None = Field(None, ge=0, le=_MOST)
    max_completion_tokens: int | None = Field(None, ge=0, le=_MOST)
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = Field(0, ge=-1)
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    stop: Stops = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    priority: int = Field(0, ge=-_MOST, le=_MOST)
    cache_salt: str | None = None

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, Any] = {}

    @property
    def most_tokens(self) -> int | None:
        """The most new tokens; None: not said."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def unsupported(self) -> list[str]:
        """The fields that are set to something that this server does not do."""
        return [name for name in ("frequency_penalty", "presence_penalty", "logit_bias") if getattr(self, name)]


class Completion(Generation):
    """The body of /v1/completions."""

    prompt: Annotated[list[str | list[int]], BeforeValidator(_prompts)]
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    add_special_tokens: bool = True
    best_of: int | None = None
    suffix: str = ""

    def unsupported(self) -> list[str]:
        """The fields that are set to something that this server does not do."""
        best_of = [] if self.best_of in (None, self.n) else ["best_of"]
        return super().unsupported() + best_of + (["suffix"] if self.suffix else [])


class Message(Body):
    """A message of a chat. What else it has, such as a name, is for other models."""

    role: str = Field(min_length=1)
    content: Text = ""


class Messages(Body):
    """Messages, and how the template renders them."""

    messages: list[Message] = []
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] = {}


class Chat(Generation, Messages):
    """The body of /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS)
    tools: list[Any] = []
    functions: list[Any] = []
    response_format: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs are given only where logprobs is true")
        return self

    def unsupported(self) -> list[str]:
        """The fields that are set to something that this server does not do."""
        is_text = self.response_format.get("type", "text") == "text"
        named = [name for name in ("tools", "functions") if getattr(self, name)]
        return super().unsupported() + named + ([] if is_text else ["response_format"])


class Tokenize(Messages):
    """The body of /tokenize: a text or messages."""

    model: str | None = None
    prompt: str | None = None
    add_special_tokens: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("expected a prompt or messages, one of them")
        return self


class Detokenize(Body):
    """The body of /detokenize."""

    model: str | None = None
    tokens: list[int]


def read(kind: type[B], data: bytes) -> B:
    """The body in some bytes. Raises ApiError: 400 where they are no JSON, 422 where it has another form."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_input=False, include_context=False)[0]) from None


def check_supported(body: Generation) -> None:
    """Raises ApiError, 400, for a field that would change the answer and is not supported."""
    for name in body.unsupported():
        raise ApiError(400, f"{name} is not supported by this server: leave it out", name, "unsupported_parameter")


def _refusal(error):
    """The answer to the first thing that is wrong with a body."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON: {message.removeprefix('Invalid JSON: ')}", None, "json")
    places = [str(place) for place in error["loc"]]
    place = ".".join(places)
    return ApiError(422, f"{place}: {message}" if place else message, places[0] if places else None, error["type"])
