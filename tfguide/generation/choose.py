"""From logits to a distribution to a token: NumPy in float64, so that both frameworks draw the same tokens."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count, make_plain


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn, by these steps in this order; the defaults do nothing.

    repetition_penalty: divides a positive logit of a token that is already in the text and multiplies a negative one
    (Keskar et al. 2019). temperature: divides the logits; 0 takes the most likely token. top_k: keeps the k most likely
    tokens. top_p: keeps the smallest set of most likely tokens whose probabilities sum to p or more (Holtzman et al.
    2020). min_p: keeps the tokens at least min_p times as likely as the most likely (Nguyen et al. 2024). seed: the
    same seed draws the same tokens from the same logits, in either framework; each row of a batch has its own draws.

    Raises TypeError for a value that is not a number, ValueError for one out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int = 0

    def __post_init__(self):
        make_plain(self)
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
                raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}")
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must lie in [0, 1], got {self.min_p}")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0 and finite, got {self.repetition_penalty}")
        check_count("seed", self.seed, least=0)


GREEDY = Sampling(temperature=0.0)


def greedy(logits: np.ndarray) -> np.ndarray:
    """The most likely token of each row: (B, V) to int64 (B,); the lowest id if two are equal.

    Raises ValueError if a logit is NaN: the argmax over NaN is an arbitrary token.
    """
    if np.isnan(logits).any():
        raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
    return np.argmax(logits, axis=-1)


def probabilities(logits: np.ndarray, sampling: Sampling, texts: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """The distribution of each row's next token: float64 (B, V), each row sums to 1.

    logits: (B, V); texts: each row's tokens so far, which the repetition penalty needs.
    Raises ValueError for logits that are NaN or all minus infinity.
    """
    logits = _penalised(logits, sampling, texts)
    if sampling.temperature == 0:
        return one_hot(np.argmax(logits, axis=1), logits.shape[1])
    logits = (logits - logits.max(axis=1, keepdims=True)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[1]:
        least = np.partition(logits, -sampling.top_k, axis=1)[:, -sampling.top_k, None]
        logits[logits < least] = -np.inf
    result = _softmax(logits)
    if sampling.top_p is not None and sampling.top_p < 1:
        result = _nucleus(result, sampling.top_p)
    if sampling.min_p:
        result = np.where(result >= sampling.min_p * result.max(axis=1, keepdims=True), result, 0.0)
        result /= result.sum(axis=1, keepdims=True)
    return result


def most_likely(logits: np.ndarray, sampling: Sampling, texts: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """The token of each row at temperature 0, int64 (B,); arguments and errors of `probabilities`."""
    if sampling.repetition_penalty is None:
        return greedy(logits)
    return np.argmax(_penalised(logits, sampling, texts), axis=1)


def one_hot(tokens: Sequence[int] | np.ndarray, vocab_size: int) -> np.ndarray:
    """The distributions with probability 1 at one token each: (n,) to float64 (n, V)."""
    result = np.zeros((len(tokens), vocab_size))
    result[np.arange(len(tokens)), np.asarray(tokens, np.int64)] = 1.0
    return result


def draw(distribution: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """The token at which each row's cumulative probability passes a uniform number: (B, V), (B,) to (B,)."""
    running = np.cumsum(distribution, axis=1)
    threshold = np.asarray(uniforms)[:, None] * running[:, -1:]
    return np.argmax(running > threshold, axis=1)


class Chooser:
    """Chooses tokens for the rows of a batch, each row with its own stream of random numbers."""

    def __init__(self, sampling: Sampling | None, n_rows: int):
        if sampling is not None and not isinstance(sampling, Sampling):
            raise TypeError(f"sampling must be a tfguide.Sampling or None, got {type(sampling).__name__}")
        self.sampling = sampling or GREEDY
        self.streams = [np.random.default_rng([self.sampling.seed, row]) for row in range(n_rows)]

    def __call__(self, logits: np.ndarray, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (B, V) and each row's text so far to the next token of each row, int64 (B,)."""
        if self.sampling.temperature == 0:
            return most_likely(logits, self.sampling, texts)
        distribution = probabilities(logits, self.sampling, texts)
        return draw(distribution, self.uniforms())

    def uniforms(self) -> np.ndarray:
        """The next random number of every row, in [0, 1)."""
        return np.array([stream.random() for stream in self.streams])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The log probabilities of logits (B, V), in float64. Raises ValueError if a logit is NaN."""
    logits = np.asarray(logits, np.float64)
    if np.isnan(logits).any():
        raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _penalised(logits, sampling, texts):
    logits = np.array(logits, np.float64)
    _check(logits)
    penalty = sampling.repetition_penalty
    if penalty is not None:
        for row, text in zip(logits, texts, strict=True):
            seen = np.unique(np.asarray(text, np.int64))
            row[seen] = np.where(row[seen] > 0, row[seen] / penalty, row[seen] * penalty)
    return logits


def _check(logits):
    if np.isnan(logits).any():
        raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
    if (logits.max(axis=1) == -np.inf).any():
        raise ValueError("all logits of a row are minus infinity: no token can be chosen")
    if (logits == np.inf).any():
        raise ValueError("the logits hold infinity: the weights or the activations are broken, no token can be chosen")


def _nucleus(distribution, p):
    order = np.argsort(-distribution, axis=1, kind="stable")
    ranked = np.take_along_axis(distribution, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked  # the sum over the more likely ones, without this one
    ranked = np.where(before < p, ranked, 0.0)
    result = np.zeros_like(distribution)
    np.put_along_axis(result, order, ranked, axis=1)
    return result / result.sum(axis=1, keepdims=True)


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
