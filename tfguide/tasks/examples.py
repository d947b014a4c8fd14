"""Labelled rows of tokens: what a classifier of texts or of tokens learns from, and what it answers.

Rows of about one length are read together, since padding costs as much as text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.training.batches import NO_LABEL, Batch, padded, sorted_within
from tfguide.training.recipe import Recipe

_GROUP = 8  # batches whose rows are sorted by their lengths


@dataclass(frozen=True)
class Examples:
    """Rows of token ids, the label of each row or of each of its tokens, and the types of its tokens or None.

    A token whose label is NO_LABEL is not learned and not counted. Raises ValueError for lists of unequal lengths.
    """

    rows: Sequence[Sequence[int]]
    labels: Sequence[int] | Sequence[Sequence[int]]
    types: Sequence[Sequence[int]] | None = None

    def __post_init__(self):
        for name in ("labels", "types"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.rows):
                raise ValueError(f"expected {name} for {len(self.rows)} rows, got {len(value)}")
        if not len(self.rows):
            raise ValueError("expected at least one row, got none")

    def choose(self, chosen: Sequence[int]) -> Examples:
        """Some of the rows, with their labels and types."""
        rows, labels, types = (
            None if some is None else [some[i] for i in chosen] for some in (self.rows, self.labels, self.types)
        )
        return Examples(rows, labels, types)

    def batch(self, chosen: Sequence[int]) -> Batch:
        """Some of the rows as tokens (B, T), padded on the right with 0, their mask `valid`, and their labels."""
        lengths = np.array([len(self.rows[i]) for i in chosen])
        inputs = {
            "tokens": padded([self.rows[i] for i in chosen], 0),
            "valid": np.arange(lengths.max()) < lengths[:, None],
        }
        if self.types is not None:
            inputs["token_types"] = padded([self.types[i] for i in chosen], 0)
        labels = [self.labels[i] for i in chosen]
        if isinstance(labels[0], Sequence):
            return Batch(inputs, padded(labels, NO_LABEL))
        return Batch(inputs, np.array(labels, np.int64))


def batch_at(examples: Examples, recipe: Recipe) -> Callable[[int], Batch]:
    """The batch of each step, from 0, for `tfguide.training.learn`: every pass takes each row once.

    The order is drawn from the seed and the number of the pass; within a few batches rows are sorted by length. Raises
    ValueError for fewer rows than a batch has.
    """
    n, size = len(examples.rows), recipe.rows
    if n < size:
        raise ValueError(f"expected at least {size} rows for a batch, got {n}")
    lengths = np.array([len(row) for row in examples.rows])
    in_a_pass = n // size

    def batch(step):
        draws = np.random.default_rng([recipe.seed, step // in_a_pass])
        order = sorted_within(draws.permutation(n)[: in_a_pass * size], lengths, _GROUP * size)
        at = draws.permutation(in_a_pass)[step % in_a_pass] * size
        return examples.batch(order[at : at + size].tolist())

    return batch


def logits(model: Any, examples: Examples, size: int = 32) -> list[np.ndarray]:
    """The logits of the labels of each row, float32: (N,), or (T, N) where each token has a label.

    size: rows that are read at once.
    """
    order = np.argsort([len(row) for row in examples.rows], kind="stable").tolist()
    found: list[Any] = [None] * len(order)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        inputs = examples.batch(chosen).inputs
        with model.without_gradients():
            given = model.classify(model(**inputs), inputs["valid"])
        for i, row in zip(chosen, model.as_array(given), strict=True):
            found[i] = row if row.ndim == 1 else row[: len(examples.rows[i])]
    return found
