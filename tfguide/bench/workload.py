"""What a server is asked in a benchmark: when requests arrive, how long they are, and what they say.

Everything is drawn before a run, by a seed. The clients of an open loop do not wait for answers: a server that falls
behind gets as many requests as one that does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checks.values import check_count, check_number
from tfguide.tasks.text import topics

#: Lengths of prompts, in tokens, like those of chat logs: (share, length) says that this share is at most so long. The
#: rows of 0.24, 0.39, 0.48, 0.57, 0.84 and 1 are those of a published log; the two between bring the mean to 229.
PROMPTS = (
    (0.24, 20), (0.39, 50), (0.48, 100), (0.57, 200), (0.74, 350), (0.84, 500), (0.94, 700), (1.00, 1000),
)  # fmt: skip
SHORTEST = 4  # tokens of a prompt
ANSWER, ANSWERS = 200, (2, 1000)  # the mean of the exponential that is cut at these lengths; the mean is then 199


@dataclass(frozen=True)
class Task:
    """A request. at: seconds after the start of the run at which it is sent. n_new: the tokens that it wants."""

    at: float
    prompt: str
    n_prompt: int
    n_new: int


def prompt_lengths(n: int, seed: int = 0) -> np.ndarray:
    """The lengths of n prompts, int64 (n,): uniform between two rows of PROMPTS."""
    draws = _stream(seed, 0).random((2, n))
    shares, ends = np.array([share for share, _ in PROMPTS]), np.array([length for _, length in PROMPTS])
    starts = np.array([SHORTEST, *(ends[:-1] + 1)])
    row = np.searchsorted(shares, draws[0], side="right")
    return starts[row] + (draws[1] * (ends[row] - starts[row] + 1)).astype(np.int64)


def answer_lengths(n: int, seed: int = 0) -> np.ndarray:
    """The lengths of n answers, int64 (n,): exponential with the mean ANSWER, cut at ANSWERS."""
    return np.clip(np.rint(_stream(seed, 1).exponential(ANSWER, n)), *ANSWERS).astype(np.int64)


def arrivals(rate: float, seconds: float, seed: int = 0) -> np.ndarray:
    """The times of a Poisson process of `rate` arrivals a second, up to `seconds`. Twice the rate halves each time.

    Raises TypeError and ValueError for a rate or a time that is not above 0.
    """
    check_number("rate", rate, above=0)
    check_number("seconds", seconds, above=0)
    stream, times = _stream(seed, 2), np.zeros(0)
    while not len(times) or times[-1] < rate * seconds:  # of a process with one arrival a second
        gaps = stream.exponential(1.0, 256)
        times = np.concatenate([times, (times[-1] if len(times) else 0.0) + np.cumsum(gaps)])
    return times[times < rate * seconds] / rate


def tasks(tokenizer: Any, rate: float, seconds: float, seed: int = 0, step: int = 0, most: int = 1000) -> list[Task]:
    """The requests of a run: pieces of Python's documentation to continue.

    tokenizer: a `tokenizers.Tokenizer`, which counts. step: of a sweep; requests of other steps have other texts of the
    same lengths, so that no prompt is known from before. most: the tokens of a prompt or an answer; longer ones are
    cut.
    """
    at = arrivals(rate, seconds, seed)
    n_prompt = np.minimum(prompt_lengths(len(at), seed), check_count("most", most))
    n_new = np.minimum(answer_lengths(len(at), seed), most)
    texts = prompts(tokenizer, n_prompt.tolist(), seed, step)
    return [
        Task(float(when), text, count, int(new))
        for when, (text, count), new in zip(at, texts, n_new.tolist(), strict=True)
    ]


def prompts(tokenizer: Any, lengths: Sequence[int], seed: int = 0, step: int = 0) -> list[tuple[str, int]]:
    """Texts that begin anywhere in Python's documentation, and their numbers of tokens: as wanted, or a few beside.

    A text that is cut between tokens may be spelled with others, so what comes out is counted again.
    """
    ids = tokenizer.encode(topics(), add_special_tokens=False).ids
    starts = _stream(seed, 3, step).integers(0, len(ids) - max(lengths, default=0), len(lengths))
    found = [tokenizer.decode(ids[start : start + n]) for start, n in zip(starts.tolist(), lengths, strict=True)]
    return [(text, len(tokenizer.encode(text).ids)) for text in found]


def _stream(*key):
    return np.random.default_rng(key)
