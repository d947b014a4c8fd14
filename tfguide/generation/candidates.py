"""Few tokens of many rows, with their exact weights: limits and draws for all rows at once, or that one is too close.

What is computed here in float64 differs from `choose` by rounding only. Where a comparison comes closer to equality
than the error allows, the row is not decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfguide.generation.sampling import Sampling

# Relative error of sums of up to a million weights in float64, here and in `choose`: n * 2**-53, rounded up.
EXACT = 1e-9


@dataclass
class Candidates:
    """Tokens of R rows, N of each in ascending order: all (R, N), where a row has fewer with the logit minus infinity.

    others: (R,) the weights of the tokens that are no candidates, each of them below `least`; error: (R,) of `others`.
    """

    tokens: np.ndarray
    logits: np.ndarray
    others: np.ndarray | float = 0.0
    least: np.ndarray | float = 0.0
    error: np.ndarray | float = 0.0

    @classmethod
    def padded(cls, n_rows: int, rows: np.ndarray, tokens: np.ndarray, logits: np.ndarray) -> Candidates:
        """From tokens and logits (n,) that stand row after row. rows: (n,) the row of each."""
        counts = np.bincount(rows, minlength=n_rows)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        result = cls(np.zeros((n_rows, counts.max()), np.int64), np.full((n_rows, counts.max()), -np.inf))
        result.tokens[rows, place], result.logits[rows, place] = tokens, logits
        return result

    def most_likely(self) -> list[int]:
        """The token of the largest logit of each row, the lowest of equal ones."""
        return _take(self.tokens, self.logits.argmax(axis=1)).tolist()


def draw_candidates(found: Candidates, sampling: Sampling, uniforms: np.ndarray) -> list[int | None]:
    """The token of each row that `choose` draws, None where a row is not decided."""
    weights, sure = keep_candidates(found, sampling)
    running = np.cumsum(weights, axis=1)
    place, is_sure = find_place(running, running[:, -1], uniforms, EXACT)
    tokens = _take(found.tokens, place).tolist()
    return [token if ok else None for token, ok in zip(tokens, (sure & is_sure).tolist(), strict=True)]


def candidate_chances(found: Candidates, sampling: Sampling, tokens: np.ndarray) -> list[float | None]:
    """The chance of one token (R,) of each row, up to a share EXACT of it; None where a row is not decided."""
    weights, sure = keep_candidates(found, sampling)
    own = ((found.tokens == tokens[:, None]) * weights).max(axis=1) / weights.sum(axis=1)
    return [chance if ok else None for chance, ok in zip(own.tolist(), sure.tolist(), strict=True)]


def keep_candidates(found: Candidates, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The weights (R, N) that top-k, top-p and min-p leave, 0 for the others, and which rows are sure (R,)."""
    scaled = (found.logits - found.logits.max(axis=1, keepdims=True)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < scaled.shape[1]:  # as in `choose`, to the last bit
        scaled[scaled < np.partition(scaled, -sampling.top_k, axis=1)[:, -sampling.top_k, None]] = -np.inf
    weights = np.exp(scaled)
    sure = np.ones(len(weights), bool)
    if sampling.top_p is not None and sampling.top_p < 1:
        sure &= _keep_nucleus(weights, found, sampling.top_p)
    if sampling.min_p:
        near = np.abs(weights / sampling.min_p - 1) < EXACT
        sure &= ~(near & (weights < 1)).any(axis=1)
        weights[weights < sampling.min_p] = 0.0
    return weights, sure


def find_place(
    running: np.ndarray, totals: np.ndarray, uniforms: np.ndarray, error: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """The first place at which a running sum passes a share of the total, (R, N) to (R,), and where that is sure, (R,).

    error: of a running sum, as a part of the total.
    """
    wanted, margin = uniforms * totals, error * totals
    passed = running > wanted[:, None]
    place = passed.argmax(axis=1)
    before = np.where(place > 0, _take(running, np.maximum(place - 1, 0)), 0.0)
    sure = passed[:, -1] & (_take(running, place) - wanted >= margin) & (wanted - before >= margin)
    return place, sure


def _keep_nucleus(weights, found, share):
    """Set the weights to 0 that are not among the fewest which sum to a share; return which rows are sure."""
    ranked = np.sort(weights, axis=1)[:, ::-1]
    running = np.cumsum(ranked, axis=1)
    totals = weights.sum(axis=1) + found.others
    wanted, margin = share * totals, EXACT * totals + found.error
    n = (running < wanted[:, None]).sum(axis=1)  # the first that reaches the share
    last = ranked.shape[1] - 1
    sure = n <= last
    n = np.minimum(n, last)
    lowest = _take(ranked, n)
    sure &= (_take(running, n) - wanted >= margin) & (lowest >= found.least)
    sure &= (n == 0) | (wanted - _take(running, np.maximum(n - 1, 0)) >= margin)
    # One that is as good as equal is ranked by its token, and rounding may decide whether it is equal.
    sure &= (n == last) | (_take(ranked, np.minimum(n + 1, last)) <= lowest * (1 - EXACT))
    weights[weights < lowest[:, None]] = 0.0
    return sure


def _take(array, places):
    return array[np.arange(len(array)), places]
