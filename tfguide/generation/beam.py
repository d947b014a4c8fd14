"""The bookkeeping of a beam search over one prompt."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count


@dataclass(frozen=True)
class Beam:
    """A continuation: its tokens, the sum of their log probabilities, and that sum over length ** length_penalty."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


class BeamSearch:
    """The `n_beams` best continuations so far, and the best that have ended.

    A continuation's score is its log probability over its length ** `length_penalty`, its stop token counted. The
    search ends when no running beam, however it went on, could come among the `n_beams` best that have ended.
    """

    def __init__(self, n_beams: int, max_new_tokens: int, stop_tokens: frozenset[int], length_penalty: float):
        self.n_beams, self.max_new_tokens = n_beams, max_new_tokens
        self.stop_tokens, self.length_penalty = stop_tokens, float(length_penalty)
        self.running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        self.ended: list[Beam] = []

    def step(self, log_probabilities: np.ndarray) -> tuple[list[int], list[int]]:
        """Extend the running beams by their log probabilities (beams, V): the parents and last tokens of the new ones.

        Both lists are empty where the search has ended.
        """
        total = np.array([p for _, p in self.running])[:, None] + log_probabilities
        # A beam has at most len(stop_tokens) continuations that end, so this many candidates leave enough that do not.
        n = min(total.size, self.n_beams * (1 + len(self.stop_tokens)))
        flat = total.ravel()
        best = np.argpartition(-flat, n - 1)[:n]
        best = best[np.lexsort((best, -flat[best]))]
        parents, running = [], []
        for place in best.tolist():
            parent, token = divmod(place, total.shape[1])
            if flat[place] == -np.inf:
                continue
            tokens = (*self.running[parent][0], token)
            if token in self.stop_tokens or len(tokens) == self.max_new_tokens:
                self._end(tokens, float(flat[place]))
            elif len(running) < self.n_beams:
                running.append((tokens, float(flat[place])))
                parents.append(parent)
        self.running = running
        if not running or self._is_decided():
            return [], []
        return parents, [tokens[-1] for tokens, _ in running]

    def best(self, n: int) -> list[Beam]:
        """The n best that have ended, best first."""
        return self.ended[:n]

    def _end(self, tokens, log_probability):
        self.ended.append(Beam(tokens, log_probability, self._score(log_probability, len(tokens))))
        self.ended.sort(key=lambda beam: -beam.score)
        del self.ended[self.n_beams :]

    def _score(self, log_probability, length):
        return log_probability / length**self.length_penalty

    def _is_decided(self):
        if len(self.ended) < self.n_beams:
            return False
        # A sum of log probabilities only falls; divided by a growing length it may still rise, up to the full length.
        lengths = (len(self.running[0][0]) + 1, self.max_new_tokens)
        reach = max(self._score(p, length) for _, p in self.running for length in lengths)
        return reach <= self.ended[-1].score


def check_beams(n_beams: int, n_best: int, length_penalty: float) -> tuple[int, int]:
    """The numbers of beams, checked. Raises ValueError or TypeError for a beam search that cannot be made."""
    n_beams, n_best = check_count("n_beams", n_beams), check_count("n_best", n_best)
    if n_best > n_beams:
        raise ValueError(f"n_best must be at most n_beams={n_beams}, got {n_best}")
    if not isinstance(length_penalty, numbers.Real) or not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be a finite number, got {length_penalty!r}")
    return n_beams, n_best


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The log probabilities of logits (B, V), in float64. Raises ValueError where a logit is NaN."""
    logits = np.asarray(logits, np.float64)
    if np.isnan(logits).any():
        raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
