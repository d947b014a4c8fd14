"""What a step learns from, and the order of a text: the same in both frameworks, known for every step by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.training.recipe import Recipe

NO_LABEL = -1  # stands where nothing is learned, at padding for example


@dataclass(frozen=True)
class Batch:
    """What one step learns from: what a model is called with, and the right answer at each place of its logits.

    inputs: arrays by the names of the parameters of the model's call, for example {"tokens": (B, T)}; labels: integers
    in the shape of the logits without their last axis, NO_LABEL where nothing is learned. Raises TypeError for labels
    that are no integers, ValueError where one lies below NO_LABEL or all are NO_LABEL.
    """

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray

    def __post_init__(self):
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype.kind not in "iu":
            got = self.labels.dtype if isinstance(self.labels, np.ndarray) else type(self.labels).__name__
            raise TypeError(f"labels must be an array of integers, got {got}")
        if not (self.labels > NO_LABEL).any() or self.labels.min() < NO_LABEL:
            raise ValueError(f"labels must be at least 0, or {NO_LABEL} at some places where nothing is learned")


def padded(rows: Sequence[Sequence[int]], filler: int, multiple: int = 1) -> np.ndarray:
    """Rows of unequal lengths as one array, int64 (B, T), T a multiple of `multiple`; `filler` stands behind each."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    result = np.full((len(rows), width), filler, np.int64)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = row
    return result


def sorted_within(order: np.ndarray, lengths: np.ndarray, size: int) -> np.ndarray:
    """An order of rows in which every `size` neighbours are sorted by their lengths: batches have little padding then.

    lengths: of all rows, (n,), or (n, k) of which the first column counts first.
    """
    keys = lengths.reshape(len(lengths), -1).T[::-1]
    parts = [order[at : at + size] for at in range(0, len(order), size)]
    return np.concatenate([part[np.lexsort(keys[:, part])] for part in parts])


def next_tokens(rows: np.ndarray) -> Batch:
    """The batch of a decoder: rows of tokens (B, T + 1), in which each token is to predict the one behind it."""
    return Batch({"tokens": rows[:, :-1]}, rows[:, 1:])


def count_batches(n_tokens: int, recipe: Recipe) -> int:
    """How many batches one pass over a text has. Raises ValueError where the text is too short for one."""
    windows = (n_tokens - 1) // recipe.length - 1  # one less, so that a pass may begin anywhere in the first window
    if windows < recipe.rows:
        least = (recipe.rows + 1) * recipe.length + 1
        raise ValueError(
            f"a text must have at least {least} tokens for a batch of {recipe.rows} rows of {recipe.length} tokens, "
            f"got {n_tokens}"
        )
    return windows // recipe.rows


def batch_of(tokens: np.ndarray, step: int, recipe: Recipe) -> np.ndarray:
    """The batch of a step, from 0: windows of a text (n,), int64 (B, T + 1), whose last column is only predicted.

    A pass cuts the text into windows and takes each once, in a random order; the next pass begins to cut elsewhere.
    Both are drawn from the seed and the number of the pass. So a run that is resumed at any step needs nothing that
    the run before it knew. Raises ValueError for a text that is too short.
    """
    in_a_pass = count_batches(len(tokens), recipe)
    draws = np.random.default_rng([recipe.seed, step // in_a_pass])
    offset = draws.integers(recipe.length)
    order = draws.permutation(in_a_pass * recipe.rows)
    at = step % in_a_pass * recipe.rows
    starts = offset + order[at : at + recipe.rows] * recipe.length
    return tokens[starts[:, None] + np.arange(recipe.length + 1)]
