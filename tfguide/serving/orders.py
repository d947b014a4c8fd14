"""From the bodies of clients to what the engine continues: prompts as tokens, sampling, stops and budgets."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfguide.config import ModelConfig
from tfguide.generation.sampling import GREEDY, Sampling
from tfguide.serving.errors import ApiError
from tfguide.serving.protocol import Chat, Completion, Generation, Messages, check_supported
from tfguide.serving.request import Request
from tfguide.text.chat import ends_of_message
from tfguide.text.template import ChatTemplate

COMPLETION_TOKENS = 16  # of a completion that does not say how many
_ROLES = {"developer": "system"}  # OpenAI's newer name, which templates do not know


@dataclass(frozen=True)
class Order:
    """What a body asks for: its requests, one for each prompt, and what is made of their tokens.

    stop: strings that end a text. logprobs: whether they are shown. echoes: the text that stands before each answer.
    only_echo: whether no new token is wanted: the one that the engine computes is not shown.
    """

    requests: Sequence[Request]
    stop: Sequence[str]
    logprobs: bool
    echoes: Sequence[str] | None = None
    only_echo: bool = False


class Clerk:
    """Makes orders of bodies, for one model.

    max_length: the most positions of a text. template: None for a model without one, which has no chats.
    Its methods raise ApiError.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate | None, config: ModelConfig, max_length: int):
        self.tokenizer, self.template, self.config, self.max_length = tokenizer, template, config, max_length
        self._ends = frozenset(config.eos_token_ids)
        self._ends_of_message = ends_of_message(tokenizer, template)

    def completion(self, body: Completion) -> Order:
        """The order of a completion."""
        check_supported(body)
        if body.most_tokens == 0 and not body.echo:
            raise ApiError(422, "max_tokens: must be at least 1 where the prompt is not echoed, got 0", "max_tokens")
        prompts = [p if isinstance(p, list) else self.encode(p, body.add_special_tokens) for p in body.prompt]
        shown = body.logprobs if body.echo else None
        requests = [
            self._request("prompt", body, prompt, self._ends, body.logprobs, shown, COMPLETION_TOKENS)
            for prompt in prompts
        ]
        echoes = [p if isinstance(p, str) else self._decode(p) for p in body.prompt] if body.echo else None
        return Order(requests, body.stop, body.logprobs is not None, echoes, body.most_tokens == 0)

    def chat(self, body: Chat) -> Order:
        """The order of a chat, whose budget is what fits where it does not say how much."""
        check_supported(body)
        if body.most_tokens == 0:
            raise ApiError(422, "max_tokens: must be at least 1, got 0", "max_tokens")
        ends, logprobs = self._ends | self._ends_of_message, (body.top_logprobs or 0) if body.logprobs else None
        request = self._request("messages", body, self.encode_chat(body), ends, logprobs)
        return Order([request], body.stop, body.logprobs)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The tokens of a text."""
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_chat(self, body: Messages) -> list[int]:
        """The tokens of messages. The template writes the special ones, also the first: the tokenizer adds none."""
        if self.template is None:
            raise ApiError(400, "this model has no chat template: /v1/completions continues a text", "messages")
        messages = [{"role": _ROLES.get(m.role, m.role), "content": m.content} for m in body.messages]
        try:
            text = self.template.render(messages, body.add_generation_prompt, **_variables(body.chat_template_kwargs))
        except ValueError as error:
            raise ApiError(400, str(error), "messages") from None
        return self.encode(text, add_special_tokens=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones too."""
        n_tokens = self.config.vocab_size
        if not all(0 <= token < n_tokens for token in tokens):
            raise ApiError(400, f"tokens: expected ids from 0 to {n_tokens - 1}", "tokens")
        return self.tokenizer.decode(tokens, skip_special_tokens=False)

    def _decode(self, tokens):
        return self.tokenizer.decode([token for token in tokens if 0 <= token < self.config.vocab_size])

    def _request(self, name, body, prompt, ends, logprobs, prompt_logprobs=None, budget=None):
        """The request for a prompt, which stands in the field `name`. budget: where the body says none."""
        asked = body.most_tokens
        if asked is None and budget is not None:
            asked = min(budget, max(1, self.max_length - len(prompt) + 1))
        stop_tokens = frozenset(body.stop_token_ids) | (frozenset() if body.ignore_eos else ends)
        try:
            return Request(
                prompt=prompt, max_new_tokens=None if asked is None else max(1, asked), sampling=_sampling(body),
                stop_tokens=sorted(stop_tokens), n=body.n, logprobs=logprobs, prompt_logprobs=prompt_logprobs,
                priority=body.priority, salt=body.cache_salt,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise ApiError(400, str(error), name) from None


def _sampling(body: Generation) -> Sampling:
    """How tokens are drawn. What changes nothing is left out, and the seed is a random one where none is given."""
    penalty = None if body.repetition_penalty == 1 else body.repetition_penalty
    try:
        sampling = Sampling(
            temperature=body.temperature, top_k=body.top_k if body.top_k > 0 else None,
            top_p=None if body.top_p == 1 else body.top_p, min_p=body.min_p or None, repetition_penalty=penalty,
            seed=secrets.randbits(63) if body.seed is None else body.seed % 2**64,
        )  # fmt: skip
    except (TypeError, ValueError) as error:  # its message begins with the name of the field
        raise ApiError(422, str(error), str(error).split()[0]) from None
    return GREEDY if sampling.temperature == 0 and penalty is None else sampling


def _variables(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a template reads beside the messages."""
    taken = {"self", "messages", "add_generation_prompt"} & set(given)
    if taken:
        raise ApiError(400, f"chat_template_kwargs: {min(taken)} is a field of its own", "chat_template_kwargs")
    return given
