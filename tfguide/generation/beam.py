"""Beam search: several continuations at a time, and the best of those that end."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation.checks import check_generation
from tfguide.generation.choose import log_softmax
from tfguide.generation.generate import start_generation
from tfguide.generation.prompts import pad_prompts, stopping
from tfguide.generation.verbs import Generator


@dataclass(frozen=True)
class Beam:
    """A continuation: its tokens, the sum of their log probabilities, and that sum over length ** length_penalty."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


class BeamSearch:
    """The `n_beams` best continuations so far, and the best that have ended.

    One that ends counts if it is among the `n_beams` best of its step, as in Hugging Face. A continuation's score is
    its log probability over its length ** `length_penalty`, including its stop token. The search ends when no
    continuation of a running beam could be among the `n_beams` best that have ended.
    """

    def __init__(self, n_beams: int, max_new_tokens: int, stop_tokens: frozenset[int], length_penalty: float):
        self.n_beams, self.max_new_tokens = n_beams, max_new_tokens
        self.stop_tokens, self.length_penalty = stop_tokens, float(length_penalty)
        self.running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        self.ended: list[Beam] = []

    def step(self, log_probabilities: np.ndarray) -> tuple[list[int], list[int]]:
        """Extend the running beams by their log probabilities (beams, V): the parents and last tokens of the new ones.

        Both lists are empty if the search has ended.
        """
        total = np.array([p for _, p in self.running])[:, None] + log_probabilities
        # A beam has at most len(stop_tokens) continuations that end, so enough of these candidates do not end.
        n = min(total.size, self.n_beams * (1 + len(self.stop_tokens)))
        flat = total.ravel()
        best = np.argpartition(-flat, n - 1)[:n]
        best = best[np.lexsort((best, -flat[best]))]
        parents, running = [], []
        for rank, place in enumerate(best.tolist()):
            parent, token = divmod(place, total.shape[1])
            if flat[place] == -np.inf:
                continue
            tokens = (*self.running[parent][0], token)
            if token in self.stop_tokens or len(tokens) == self.max_new_tokens:
                if rank < self.n_beams:  # else unlikely short texts would end, whose few factors make them likely
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
    """The numbers of beams, checked. Raises ValueError or TypeError for an impossible beam search."""
    n_beams, n_best = check_count("n_beams", n_beams), check_count("n_best", n_best)
    if n_best > n_beams:
        raise ValueError(f"n_best must be at most n_beams={n_beams}, got {n_best}")
    if not isinstance(length_penalty, numbers.Real) or not math.isfinite(length_penalty):
        raise ValueError(f"length_penalty must be a finite number, got {length_penalty!r}")
    return n_beams, n_best


def beam_search(
    model: Generator,
    prompts: Sequence[Sequence[int]],
    n_beams: int = 4,
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | int | None = None,
    length_penalty: float = 1.0,
    n_best: int = 1,
    cache_dtype: str | None = None,
) -> list[list[Beam]]:
    """The `n_best` continuations of each prompt by score, best first, each a `Beam` with its tokens and its score.

    A score is the sum of the tokens' log probabilities over length ** `length_penalty`, including the stop token: 0
    favours short continuations, 1 compares means. The search of a prompt ends when no running beam could still be among
    the best. stop_tokens, cache_dtype: as in `generate`. Source: Wu et al. 2016, section 7, with Hugging Face's length
    penalty.

    Raises ValueError for `n_beams` below 1 or `n_best` above it, and as `generate`.
    """
    config = model.config
    pad_prompts(prompts, config.vocab_size)
    max_new_tokens, stops = stopping(config, max_new_tokens, stop_tokens)
    n_beams, n_best = check_beams(n_beams, n_best, length_penalty)
    searches = (
        _search(model, prompt, n_beams, max_new_tokens, stops, length_penalty, cache_dtype) for prompt in prompts
    )
    return [search.best(n_best) for search in searches]


def _search(model, prompt, n_beams, max_new_tokens, stops, length_penalty, cache_dtype):
    tokens, lengths = pad_prompts([prompt], model.config.vocab_size)
    check_generation(model.config, int(lengths[0]), max_new_tokens)
    search = BeamSearch(n_beams, max_new_tokens, stops, length_penalty)
    read = int(lengths[0]) if model.config.kind == "decoder" else 1
    cache = model.new_cache(1, read + max_new_tokens - 1, cache_dtype)
    logits = start_generation(model, tokens, lengths, cache)
    while True:
        parents, last = search.step(log_softmax(logits))
        if not last:
            return search
        cache.reorder(np.array(parents))
        logits = model.decode(np.array(last), cache)
