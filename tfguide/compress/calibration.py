"""Calibration: the inputs of a model's linear layers for a text, one block at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.compress.weighted import Weighted
from tfguide.config import ModelConfig
from tfguide.weights import weight_table

TOKENS = 4096  # read at a time: limits the memory of activations to that of so many tokens

# Layers that multiply the same input as another, which is computed once.
_SAME_INPUT = {"key": "query", "value": "query", "key_value_down": "query", "up": "gate"}


class Inputs:
    """X^T X of the inputs of a model's linear layers for tokens (B, T), of one block at a time.

    Raises ValueError for an encoder-decoder, TypeError or ValueError for tokens that the model does not read.
    """

    def __init__(self, model: Weighted, tokens: Any):
        if model.config.kind == "encoder-decoder":
            raise ValueError("calibration reads one text, and an encoder-decoder two: expected an encoder or a decoder")
        self._config, self._blocks, self._current = model.config, model.grams(tokens), {}

    def gram_of(self, path: str) -> np.ndarray | None:
        """X^T X, (in, in), of the layer at a path; None for a pooler, and for experts, which read few tokens each.

        Layers are asked for in the model's order.
        """
        weight = weight_table(self._config).get(f"{path}.weight")
        if weight is not None and weight.is_routed:
            return None
        name = source_of(self._config, path)
        while name not in self._current:
            found = next(self._blocks, None)
            if found is None:
                return None
            self._current = found
        return self._current[name]


def source_of(config: ModelConfig, path: str) -> str:
    """The path of the layer whose input a linear layer shares: that of its attention's queries, or of its gate."""
    parent, _, own = path.rpartition(".")
    source = _SAME_INPUT.get(own, own)
    if source == "query" and config.latent is not None and config.latent.query_rank is not None:
        source = "query_down"
    if source == "gate" and not config.gated:
        source = own
    return f"{parent}.{source}" if parent else own


def observed_layers(config: ModelConfig, layer: int) -> list[str]:
    """The paths within a block of those of its linear layers that `source_of` gives; without the experts."""
    gate = "gate" if config.gated else "up"
    networks = ["feed_forward"]
    if config.has_experts(layer):
        networks = ["feed_forward.shared"] if config.experts.n_shared else []
    own = [f"{network}.{part}" for network in networks for part in (gate, "down")]
    attention = ["query", "output"]
    if config.latent is not None:
        attention = ["query"] if config.latent.query_rank is None else ["query_down", "query_up"]
        attention += ["key_value_up", "output"]
    return [*(f"self_attention.{part}" for part in attention), *own]
