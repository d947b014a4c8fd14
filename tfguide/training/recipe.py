"""How a model is trained, in numbers: the schedule of the learning rate, AdamW, clipping, batches."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from tfguide.checks.values import check_count, check_number, make_plain


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers that define a training run, apart from the model and the text; every field is checked.

    With one recipe, one text and the same initial weights, both frameworks take the same steps. The defaults are
    those of the book's model. Raises TypeError for a value of the wrong type, ValueError for one out of range.
    """

    steps: int = 1600
    rows: int = 4  # B
    length: int = 256  # T
    learning_rate: float = 2e-3  # at its peak
    warmup: int = 100  # steps until the peak
    floor: float = 0.1  # the learning rate at the end, as a share of the peak
    decay: float = 0.1  # of matrices and tables; norms and biases do not decay
    clip: float = 1.0  # the largest norm of all gradients together
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    seed: int = 0  # of the initial weights and of the order of the text
    measure_every: int = 100  # steps between two measurements of the perplexity; the last step is measured as well

    def __post_init__(self):
        make_plain(self)
        for name in ("steps", "rows", "length", "measure_every"):
            check_count(name, getattr(self, name))
        for name in ("warmup", "seed"):
            check_count(name, getattr(self, name), least=0)
        for name in ("learning_rate", "clip", "epsilon"):
            check_number(name, getattr(self, name), above=0)
        for name in ("floor", "decay", "beta1", "beta2"):
            check_number(name, getattr(self, name))
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup must be below steps={self.steps}, got {self.warmup}")

    def rate_of(self, step: int) -> float:
        """The learning rate of a step, from 0: a line up to the peak, then half a cosine down to the floor.

        Source: Loshchilov & Hutter 2017, without restarts; the warm-up as in Vaswani et al. 2017.

        >>> recipe = Recipe(steps=100, warmup=10, learning_rate=1.0, floor=0.1)
        >>> [round(recipe.rate_of(step), 3) for step in (0, 4, 9, 10, 54, 99)]
        [0.1, 0.5, 1.0, 1.0, 0.558, 0.1]
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - 1 - self.warmup)
        return self.learning_rate * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)

    def differences(self, other: Recipe) -> list[str]:
        """The fields in which another recipe differs, with both values."""
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [f"{name} {mine[name]} and {theirs[name]}" for name in mine if mine[name] != theirs[name]]
