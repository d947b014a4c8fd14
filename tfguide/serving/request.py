"""What a client asks for, and a text that is being continued."""

from __future__ import annotations

import enum
import itertools
import time
from collections import abc
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tfguide.checks.values import check_count, make_plain
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.choose import choose_rows
from tfguide.generation.penalty import Seen
from tfguide.generation.prompts import stopping
from tfguide.generation.sampling import GREEDY, Sampling
from tfguide.serving.blocks import Table

MOST_LOGPROBS = 20  # of likely tokens, beside the chosen one
MOST_CHOICES = 128


class Finish(enum.Enum):
    """Why a sequence has ended. ERROR: no token could be chosen; its `error` says why."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A prompt and how it is continued.

    prompt: token ids. max_new_tokens: None: as many as fit. n: how many continuations; choice i draws as row i of
    `generate` with this seed. stop_tokens: one or several; default: those of the model; the stop token is the last one
    of a continuation. logprobs: how many likely tokens are reported with their log probabilities beside each chosen
    one, 0 to 20; None: nothing. prompt_logprobs: the same for the tokens of the prompt, whose blocks are then not taken
    from others. priority: lower ones are served first. salt: requests share prefixes only if they have the same one.

    Raises TypeError or ValueError for a value that no model could take.
    """

    prompt: abc.Sequence[int]
    max_new_tokens: int | None = None
    sampling: Sampling = GREEDY
    stop_tokens: abc.Sequence[int] | int | None = None
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    priority: int = 0
    salt: Hashable = None

    def __post_init__(self):
        make_plain(self)
        tokens = np.asarray(self.prompt)
        if tokens.ndim != 1:
            raise ValueError(f"prompt must be one sequence of token ids, got shape {tokens.shape}")
        if not tokens.size:
            raise ValueError("prompt is empty: generation needs at least one token to start from")
        if tokens.dtype.kind not in "iu":
            raise TypeError(f"prompt must hold integer token ids, got {tokens.dtype}")
        object.__setattr__(self, "prompt", tuple(tokens.tolist()))
        if not isinstance(self.sampling, Sampling):
            raise TypeError(f"sampling must be a tfguide.Sampling, got {type(self.sampling).__name__}")
        if self.max_new_tokens is not None:
            check_count("max_new_tokens", self.max_new_tokens)
        if check_count("n", self.n) > MOST_CHOICES:
            raise ValueError(f"n must be at most {MOST_CHOICES}, got {self.n}")
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            if count is not None and check_count(name, count, least=0) > MOST_LOGPROBS:
                raise ValueError(f"{name} must be at most {MOST_LOGPROBS}, got {count}")
        if isinstance(self.stop_tokens, (abc.Sequence, np.ndarray)):
            object.__setattr__(self, "stop_tokens", tuple(np.asarray(self.stop_tokens).tolist()))
        if not isinstance(self.priority, int):
            raise TypeError(f"priority must be an integer, got {self.priority!r}")


def fit(request: Request, config: ModelConfig, max_length: int) -> tuple[int, frozenset[int]]:
    """The most new tokens of a request, and its stop tokens, for a model and texts of up to `max_length` positions.

    Raises ValueError, whose message names the prompt's length, if they do not fit; TypeError for other stop tokens.
    """
    check_text_tokens(request.prompt, config.vocab_size)
    n_prompt = len(request.prompt)
    room = max_length - n_prompt + 1  # the last token is returned but never read
    if room < 1:
        raise ValueError(f"the prompt has {n_prompt} tokens, the most that a text may have is {max_length}")
    if request.max_new_tokens is not None and request.max_new_tokens > room:
        raise ValueError(
            f"the prompt has {n_prompt} tokens and {request.max_new_tokens} more are wanted: a text may have "
            f"{max_length}, so that at most {room} more fit"
        )
    return stopping(config, request.max_new_tokens or room, request.stop_tokens)


@dataclass(frozen=True)
class Likely:
    """The log probability of a token before sampling changes it, and the likeliest tokens there with theirs."""

    logprob: float
    rank: int  # of the token, 1 for the likeliest
    top: tuple[tuple[int, float], ...]


_numbers = itertools.count()


@dataclass(eq=False, slots=True)
class Sequence:
    """One continuation of a request.

    tokens: of the prompt and the new ones. n_computed: how many of them have keys and values in the cache: it alone
    says what is to be computed next, be it a prompt, a part of one, one more token, or all again after a preemption.
    number: by which sequences are told apart, in the order of their arrival. leader: a sequence with the same prompt,
    which is computed once, before this one begins. row: of the cache, while it runs. client: what whoever sent the
    request keeps with it.
    """

    request: Request
    choice: int
    max_new_tokens: int
    stop_tokens: frozenset[int]
    leader: Sequence | None = None
    tokens: list[int] = field(init=False)
    n_prompt: int = field(init=False)
    n_computed: int = 0
    n_shared: int | None = None  # of the prompt's tokens, taken from the cache when it began; None: not begun yet
    began: float | None = None  # when it got its first row, by time.monotonic
    table: Table = field(init=False)
    seedless: Sampling = field(init=False)  # equal for all that sample alike, whatever their seeds
    row: int | None = None
    finish: Finish | None = None
    error: str | None = None
    number: int = field(default_factory=lambda: next(_numbers))
    draws: np.random.Generator | None = None
    seen: Seen | None = None
    prompt_likely: list[Likely] = field(default_factory=list)  # of the prompt's tokens from the second on
    n_preempted: int = 0
    client: Any = None

    def __post_init__(self):
        self.tokens = list(self.request.prompt)
        self.n_prompt = len(self.tokens)
        self.table = Table(self.request.salt)
        self.seedless = replace(self.request.sampling, seed=0)
        if self.request.sampling.temperature > 0:
            self.draws = np.random.default_rng([self.request.sampling.seed, self.choice])

    def start(self, row: int, n_shared: int) -> None:
        """Run in a row of the cache; `n_shared` tokens are in it already."""
        self.row, self.n_computed = row, n_shared
        if self.n_shared is None:
            self.n_shared, self.began = n_shared, time.monotonic()

    def count(self, n_computed: int) -> None:
        """Have so many tokens in the cache."""
        self.n_computed = n_computed

    def give_way(self) -> int:
        """Wait again, with nothing in the cache: the row that it had."""
        row, self.row, self.n_computed = self.row, None, 0
        self.n_preempted += 1
        return row

    def end(self, reason: Finish, error: str | None = None) -> int | None:
        """Have ended, for this reason: the row that it had, None if it did not run."""
        self.finish, self.error = reason, error
        row, self.row = self.row, None
        return row

    def draw_penalised(self, logits: np.ndarray, uniforms: np.ndarray) -> int | str:
        """The next token by logits (1, V) and a random number (1,), with the repetition penalty of the request.

        Instead of a token, what is wrong with the logits.
        """
        sampling = self.request.sampling
        if self.seen is None:
            self.seen = Seen(sampling.repetition_penalty, *logits.shape)
        self.seen.update([self.tokens])
        return choose_rows(logits, sampling, uniforms, [self.tokens], self.seen)[0]

    @property
    def n_new(self) -> int:
        """The new tokens so far."""
        return len(self.tokens) - self.n_prompt

    @property
    def new_tokens(self) -> list[int]:
        """The new tokens so far, a list of its own."""
        return self.tokens[self.n_prompt :]

    @property
    def rank(self) -> tuple[int, int]:
        """Sequences of a lower rank are served first."""
        return self.request.priority, self.number
