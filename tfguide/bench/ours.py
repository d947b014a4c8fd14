"""This package as a contestant with many rows, or with long prompts: its verbs, without the loop of `generate`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.generation import greedy
from tfguide.loading import load_framework, load_model

CHUNK = 512  # tokens that the plain model reads at a time: of 8000 at once the scores alone would take gigabytes


class OurRows:
    """Rows of equal length in one cache: what is timed is reading the prompts, and steps after them.

    model: any model with the three verbs. prompts: (B, T). n_new: steps that the cache has room for. options: further
    arguments of `new_cache`.
    """

    def __init__(self, model: Any, prompts: np.ndarray, n_new: int, **options: Any):
        self.model, self.prompts = model, prompts
        self.cache = model.new_cache(len(prompts), prompts.shape[1] + n_new, **options)
        self.first: np.ndarray | None = None

    def read(self, chunk_size: int | None = None) -> np.ndarray:
        """Read the prompts into an empty cache: the logits (B, V) after them."""
        self.cache.rewind(0)
        logits = self.model.prefill(self.prompts, self.cache, chunk_size=chunk_size)
        self.first = greedy(logits)
        return logits

    def steps(self, n: int, **options: Any) -> np.ndarray:
        """Forget what follows the prompts, and decode n steps greedily: the chosen tokens (n, B).

        options: further arguments of `decode`.
        """
        self.cache.rewind(self.prompts.shape[1])
        tokens, chosen = self.first, []
        for _ in range(n):
            tokens = greedy(self.model.decode(tokens, self.cache, **options))
            chosen.append(tokens)
        return np.array(chosen)

    def experts_read(self, n: int) -> float:
        """How many experts of a layer one step reads, counted by the kernels: the mean of n steps and all mixtures."""
        config = self.model.config
        counter = np.zeros(config.n_layers, np.int64)
        self.steps(n, experts_read=counter)
        return counter.sum() / (n * sum(map(config.has_experts, range(config.n_layers))))

    def close(self) -> None:
        """Nothing to free."""


def load_ours(framework: str, folder: str, dtype: str, fast: bool = True) -> Any:
    """The model of a checkpoint folder in one framework and type of weights, accelerated if `fast`."""
    tg = load_framework(framework)
    model = load_model(tg, folder, dtype)
    return tg.accelerate(model) if fast else model


def plain_logits(framework: str, folder: str, prompts: np.ndarray) -> np.ndarray:
    """The logits (B, V) after prompts (B, T) by the plain model in float32, the measure of every contestant."""
    return OurRows(load_ours(framework, folder, "float32", fast=False), prompts, 1).read(CHUNK)
