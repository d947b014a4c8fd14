"""Prompts of unequal lengths as one rectangle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.checks.shapes import check_token_range


def pad_prompts(prompts: Sequence[Sequence[int]] | np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts padded on the right with 0, and their lengths: int64 arrays (B, T) and (B,).

    Padding stands on the right, so that every row's positions begin at 0; what it writes into a cache is overwritten
    by the row's next tokens before anything can look at it.

    Raises TypeError where a prompt does not hold integers, ValueError for an empty batch, an empty prompt, or a token
    outside the vocabulary.

    >>> tokens, lengths = pad_prompts([[5, 3, 2], [7]], vocab_size=11)
    >>> tokens.tolist(), lengths.tolist()
    ([[5, 3, 2], [7, 0, 0]], [3, 1])
    """
    if isinstance(prompts, (str, bytes)) or not hasattr(prompts, "__len__"):
        raise TypeError(f"prompts must be a sequence of sequences of token ids, got {type(prompts).__name__}")
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one prompt, got an empty batch")
    rows = [_row(i, prompt, vocab_size) for i, prompt in enumerate(prompts)]
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for row, prompt in zip(tokens, rows, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def _row(index, prompt, vocab_size):
    row = np.asarray(prompt)
    if row.size == 0:
        raise ValueError(f"prompt {index} is empty: generation needs at least one token to start from")
    if row.dtype.kind not in "iu":
        raise TypeError(f"prompt {index} must hold integer token ids, got {row.dtype}")
    if row.ndim != 1:
        raise ValueError(f"prompts must be one sequence of token ids each, got shape {row.shape} for prompt {index}")
    check_token_range(f"prompt {index}", int(row.min()), int(row.max()), vocab_size)
    return row
