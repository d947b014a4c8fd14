"""The order of the data: the same in both frameworks, and known for every step by itself."""

from __future__ import annotations

import numpy as np

from tfguide.training.recipe import Recipe


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
