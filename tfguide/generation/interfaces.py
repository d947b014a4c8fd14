"""The interface of a cache that generation uses, in either framework."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from tfguide.config import ModelConfig


class Cache(Protocol):
    """The keys and values of every position so far, or an equivalent of them; see `tfguide.torch.KVCache`."""

    config: ModelConfig
    batch_size: int
    max_length: int | None
    lengths: np.ndarray  # (B,), the number of filled positions of each row

    def check_room(self, n_tokens: int) -> None:
        """Raises ValueError if `n_tokens` more tokens of each row do not fit."""

    def begin(self, counts: np.ndarray | int, only_empty: bool = False) -> None:
        """Announce a prompt of `counts` tokens for each row, whatever the calls that read it."""

    def rewind(self, lengths: np.ndarray | int) -> None:
        """Forget all positions from `lengths` on: (B,), or one number for all rows."""

    def reorder(self, rows: np.ndarray) -> None:
        """Replace row i by the former row `rows[i]`, rows (B,) of any new number B."""

    @property
    def nbytes(self) -> int:
        """The bytes of the cached tensors, filled or not."""
