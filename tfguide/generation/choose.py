"""From logits to a distribution to a token: NumPy in float64, so that both frameworks draw the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.generation.penalty import Seen, penalise
from tfguide.generation.quick import draw_quickly
from tfguide.generation.sampling import GREEDY, Sampling

NAN = (
    "the logits hold NaN, no token can be chosen: the weights or the activations are broken, or a key or a value was "
    "too large for a float16 cache (cache_dtype='bfloat16' holds it)"
)


def greedy(logits: np.ndarray) -> np.ndarray:
    """The most likely token of each row: (B, V) to int64 (B,); the lowest id if two are equal.

    Raises ValueError if a logit is NaN: the argmax over NaN is an arbitrary token.
    """
    tokens, broken = _largest(logits)
    if broken.any():
        raise ValueError(NAN)
    return tokens


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
        self._seen: Seen | None = None
        self.streams = [np.random.default_rng([self.sampling.seed, row]) for row in range(n_rows)]

    def __call__(self, logits: np.ndarray, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (B, V) and each row's text so far to the next token of each row, int64 (B,).

        A text may grow between two calls; what was read of the same list is not read again.
        """
        logits, sampling = np.asarray(logits), self.sampling
        if sampling.repetition_penalty is not None:
            self._seen = self._seen or Seen(sampling.repetition_penalty, *logits.shape)
            self._seen.update(texts)
        elif sampling.temperature == 0:
            return greedy(logits)
        uniforms = self.uniforms() if sampling.temperature else np.zeros(len(logits))
        tokens = choose_rows(logits, sampling, uniforms, texts, self._seen)
        for token in tokens:
            if isinstance(token, str):
                raise ValueError(token)
        return np.array(tokens, np.int64)

    def uniforms(self) -> np.ndarray:
        """The next random number of every row, in [0, 1)."""
        return np.array([stream.random() for stream in self.streams])


def choose_rows(
    logits: np.ndarray, sampling: Sampling, uniforms: np.ndarray, texts: Sequence[Sequence[int]] | None = None,
    seen: Seen | None = None,
) -> list[int | str]:  # fmt: skip
    """The token of each row, (B, V) to B integers; instead of one, what is wrong with the logits of its row.

    uniforms: (B,), a random number of each row in [0, 1); of no use at temperature 0. texts, seen: each row's tokens so
    far, which a repetition penalty needs.
    """
    tokens: list[int | str] = []
    for row, token in enumerate(draw_quickly(logits, sampling, uniforms, seen)):
        if token is None:
            own = None if texts is None else [texts[row]]
            try:
                token = int(draw(probabilities(logits[row : row + 1], sampling, own), uniforms[row : row + 1])[0])
            except ValueError as error:
                token = str(error)
        tokens.append(token)
    return tokens


def greedy_rows(logits: np.ndarray) -> list[int | str]:
    """The most likely token of each row, (B, V) to B integers; instead of one, what is wrong with the row: NaN."""
    tokens, broken = _largest(logits)
    return [NAN if wrong else token for token, wrong in zip(tokens.tolist(), broken.tolist(), strict=True)]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The log probabilities of logits (B, V), in float64. Raises ValueError if a logit is NaN."""
    logits = np.asarray(logits, np.float64)
    if np.isnan(logits).any():
        raise ValueError(NAN)
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _largest(logits):
    """The place of the largest logit of each row, of a NaN if it holds one, and whether it does."""
    tokens = np.argmax(logits, axis=-1)
    return tokens, np.isnan(np.take_along_axis(logits, tokens[..., None], axis=-1))[..., 0]


def _penalised(logits, sampling, texts):
    logits = np.array(logits, np.float64)
    _check(logits)
    penalty = sampling.repetition_penalty
    if penalty is not None:
        for row, text in zip(logits, texts, strict=True):
            seen = np.unique(np.asarray(text, np.int64))
            row[seen] = penalise(row[seen], penalty)
    return logits


def _check(logits):
    if np.isnan(logits).any():
        raise ValueError(NAN)
    if (logits.max(axis=1) == -np.inf).any():
        raise ValueError("all logits of a row are minus infinity: no token can be chosen")
    if (logits == np.inf).any():
        raise ValueError("the logits hold infinity: the weights or the activations are broken, no token can be chosen")


def _nucleus(distribution, p):
    # Tokens below `least` hold less than half of 1 - p together: none is in the nucleus, and they need no rank.
    least = (1 - p) / 2 / distribution.shape[1] if p < 1 - 1e-9 else 0.0
    result = np.zeros_like(distribution)
    for row, probability in enumerate(distribution):
        likely = np.flatnonzero(probability >= 1e-4)  # 10,000 at most, mostly some hundreds: quickly ranked
        if probability[likely].sum() < p * (1 + 1e-9):
            likely = np.flatnonzero(probability >= least)
        order = likely[np.argsort(-probability[likely], kind="stable")]
        ranked = probability[order]
        before = np.cumsum(ranked) - ranked  # the sum over the more likely ones, without this one
        kept = order[before < p]
        result[row, kept] = probability[kept]
    return result / result.sum(axis=1, keepdims=True)


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
