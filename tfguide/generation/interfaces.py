"""What generation asks of a cache, whatever framework it belongs to."""

from __future__ import annotations

from typing import Protocol

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
