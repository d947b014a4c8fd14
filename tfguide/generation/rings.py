"""How many positions a cache has room for in each layer: a layer with a window keeps a ring of the newest positions.

Position p of a ring lies in slot p modulo the number of slots. A ring has room for the window and for the new positions
of one pass of the C++ kernels, in whole blocks of the kernels: a block of positions is then never torn apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.config import ModelConfig

# Of the C++ kernels, which compare them when they are loaded.
PASS_ROWS = 128  # new positions of a text that they write before they attend
BLOCK = 512  # positions that they attend to at a time


def ring_slots(config: ModelConfig, max_length: int | None) -> int | None:
    """The slots of a layer with a window, or None if no layer has one, or a ring would save nothing.

    >>> config = ModelConfig.from_preset("mistral-7b")
    >>> ring_slots(config, 32768), ring_slots(config, 4608)
    (4608, None)
    """
    if not config.n_sliding_layers or max_length is None:
        return None
    slots = -(-(config.sliding_window + PASS_ROWS - 1) // BLOCK) * BLOCK
    return slots if slots < max_length else None


def layer_slots(config: ModelConfig, max_length: int) -> list[int]:
    """The slots of each layer of a cache for `max_length` positions."""
    ring = ring_slots(config, max_length)
    return [max_length if ring is None or not config.slides(layer) else ring for layer in range(config.n_layers)]


def ring_positions(lengths: np.ndarray, slots: int) -> np.ndarray:
    """The position in each slot of the rings of rows with these lengths, (B,): (B, slots), -1 where there is none."""
    newest = lengths[:, None] - 1
    positions = newest - (newest - np.arange(slots)) % slots
    return np.where(positions < 0, -1, positions)


def ring_places(
    starts: np.ndarray, counts: np.ndarray, n_tokens: int, slots: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of `n_tokens` new tokens of each row are kept: their rows, columns and slots, (n,) each.

    starts, counts: (B,), the position of each row's first new token, and how many of its tokens are real. Padding is
    not kept: it would overwrite what the next token sees.
    """
    columns = np.arange(n_tokens)[None]
    rows, columns = ((columns < counts[:, None]) & (columns >= counts[:, None] - slots)).nonzero()
    return rows, columns, (starts[rows] + columns) % slots


def by_layer(config: ModelConfig, n_slots: int | Sequence[int]) -> list[int]:
    """The slots of each layer, from one number for all or from a list."""
    return list(n_slots) if isinstance(n_slots, Sequence) else [n_slots] * config.n_layers
