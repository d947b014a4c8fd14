"""What generation and compression ask of caches and models, whatever framework they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tfguide.config import ModelConfig


class Cache(Protocol):
    """The keys and values of every position so far, or what stands for them; see `tfguide.torch.KVCache`."""

    config: ModelConfig
    batch_size: int
    max_length: int | None
    lengths: np.ndarray  # (B,), how many positions of each row are filled

    def check_room(self, n_tokens: int) -> None:
        """Raises ValueError where `n_tokens` more tokens of each row do not fit."""

    def rewind(self, lengths: np.ndarray | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows."""

    def reorder(self, rows: np.ndarray) -> None:
        """Let row i become what row `rows[i]` was, rows (B,) of any new number B."""

    @property
    def nbytes(self) -> int:
        """The bytes of what is cached, filled or not."""


class Prunable(Protocol):
    """A model whose weights can be taken out and put into another one of its kind."""

    config: ModelConfig
    quantization: Any

    def to_weights(self) -> dict[str, np.ndarray]:
        """The canonical dictionary of the weights, float32 copies."""

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Prunable:
        """A model of the same framework and type with another configuration and other weights."""

    def hidden_states(self, tokens: Any) -> list[np.ndarray]:
        """What goes into the first block and what comes out of each, (B, T, D), float32."""
