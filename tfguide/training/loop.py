"""The loop: a batch, a step, and from time to time the perplexity of text that the model does not train on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from tfguide.generation import perplexity
from tfguide.training.batches import Batch, batch_of, next_tokens
from tfguide.training.recipe import Recipe


class Trainer(Protocol):
    """What a framework brings: one step, and the state of the optimiser. See `tfguide.torch.Trainer`."""

    model: Any
    recipe: Recipe

    def step(self, batch: Batch, update: int) -> tuple[float, float]:
        """Learn from a batch as the given update, from 0; the loss and the norm of the gradients."""

    def moments(self) -> dict[str, np.ndarray]:
        """The state of the optimiser, by names that both frameworks use."""

    def restore(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> None:
        """Set the weights of the model and the state of the optimiser."""


@dataclass(frozen=True)
class Record:
    """What a step found: the loss before it, the norm of the gradients before clipping, the learning rate.

    perplexity: of the held-out text after the step; score: of a task's own on what is held out, 0 to 1. Each is None
    where it was not measured.
    """

    step: int
    loss: float
    norm: float
    rate: float
    perplexity: float | None = None
    score: float | None = None

    @property
    def measured(self) -> bool:
        """Whether the model was measured after the step."""
        return self.perplexity is not None or self.score is not None


def train(trainer: Trainer, tokens: np.ndarray, held_out: np.ndarray | None = None, start: int = 0) -> Iterator[Record]:
    """Take the steps of `trainer.recipe` one by one, beginning with `start`; yields a record after each.

    tokens: the text to learn from, (n,); held_out: the text that is measured, in windows of the length of a row;
    default: none. Whoever takes the records decides what happens between two steps: print, save, or stop.
    """
    recipe = trainer.recipe
    for record in learn(trainer, lambda step: next_tokens(batch_of(tokens, step, recipe)), start):
        done = record.step + 1
        if held_out is not None and (done % recipe.measure_every == 0 or done == recipe.steps):
            yield replace(record, perplexity=perplexity(trainer.model, held_out, recipe.length, recipe.length - 1))
        else:
            yield record


def learn(trainer: Trainer, batch_at: Callable[[int], Batch], start: int = 0) -> Iterator[Record]:
    """Take the steps of `trainer.recipe` one by one, beginning with `start`; yields a record after each.

    batch_at: the batch of a step, from 0. A run that is resumed takes the same ones, if the number of a step is all
    that decides its batch.
    """
    recipe = trainer.recipe
    for step in range(start, recipe.steps):
        loss, norm = trainer.step(batch_at(step), step)
        yield Record(step, loss, norm, recipe.rate_of(step))
