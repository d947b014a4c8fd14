"""What compiled generation checks and returns, in either framework."""

from __future__ import annotations

import numpy as np


def check_fits(decoder, n_rows: int, needed: int) -> None:
    """Raises ValueError where a batch is not the one that was compiled for, or does not fit into the cache."""
    if n_rows != decoder.batch_size:
        raise ValueError(f"compiled for {decoder.batch_size} prompts at a time, got {n_rows}")
    if needed > decoder.max_length:
        raise ValueError(f"compiled for {decoder.max_length} positions, the generation needs {needed}")


def as_rows(tokens: np.ndarray, stops: frozenset[int]) -> list[list[int]]:
    """Chosen tokens (B, n) as lists that end with the first stop token."""
    rows = []
    for row in tokens.tolist():
        end = next((i for i, token in enumerate(row) if token in stops), len(row) - 1)
        rows.append(row[: end + 1])
    return rows
