"""Prompts of unequal lengths as one array, read in chunks, and when their continuations end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from tfguide.checks.shapes import check_token_range
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig


def pad_prompts(prompts: Sequence[Sequence[int]] | np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts padded on the right with 0, and their lengths: int64 arrays (B, T) and (B,).

    Padding is on the right, so that every row's positions begin at 0; the row's next tokens overwrite what padding
    writes into a cache before any query can see it.

    Raises TypeError if a prompt does not hold integers, ValueError for an empty batch, an empty prompt, or a token
    outside the vocabulary.

    >>> tokens, lengths = pad_prompts([[5, 3, 2], [7]], vocab_size=11)
    >>> tokens.tolist(), lengths.tolist()
    ([[5, 3, 2], [7, 0, 0]], [3, 1])
    """
    if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Sized):
        raise TypeError(f"prompts must be a sequence of sequences of token ids, got {type(prompts).__name__}")
    if len(prompts) == 0:
        raise ValueError("prompts must hold at least one prompt, got an empty batch")
    rows = [_row(i, prompt, vocab_size) for i, prompt in enumerate(prompts)]
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for row, prompt in zip(tokens, rows, strict=True):
        row[: len(prompt)] = prompt
    return tokens, lengths


def stopping(
    config: ModelConfig, max_new_tokens: int, stop_tokens: Sequence[int] | int | None
) -> tuple[int, frozenset[int]]:
    """When a row ends: after how many tokens (a plain integer), and at which tokens.

    stop_tokens: one or several; default: the configuration's `eos_token_ids`.

    Raises ValueError if `max_new_tokens` is below 1 or a stop token is outside the vocabulary, TypeError for a value
    that is not an integer.
    """
    max_new_tokens = check_count("max_new_tokens", max_new_tokens)
    if stop_tokens is None:
        return max_new_tokens, frozenset(config.eos_token_ids)
    if isinstance(stop_tokens, np.ndarray):
        stop_tokens = np.atleast_1d(stop_tokens).tolist()
    several = stop_tokens if isinstance(stop_tokens, Iterable) else (stop_tokens,)
    found = frozenset(check_count("a stop token", token, least=0) for token in several)
    if found:
        check_token_range("a stop token", min(found), max(found), config.vocab_size)
    return max_new_tokens, found


@dataclass(frozen=True)
class Chunk:
    """Columns of padded prompts that are read in one call.

    start, stop: the columns; valid: (B, n), True at real tokens, or None if all are real; last: (B,), the column within
    the chunk of each row's last token, if the row ends in the chunk; ends: (B,), whether it does.
    """

    start: int
    stop: int
    valid: np.ndarray | None
    last: np.ndarray
    ends: np.ndarray


def split_prompts(lengths: np.ndarray, n_tokens: int, chunk_size: int | None = None) -> Iterator[Chunk]:
    """The chunks of prompts (B, n_tokens) whose rows have `lengths` (B,) real tokens; None: one chunk."""
    for start in range(0, n_tokens, chunk_size or n_tokens):
        stop = min(start + (chunk_size or n_tokens), n_tokens)
        valid = np.arange(start, stop) < lengths[:, None]
        yield Chunk(
            start, stop, None if valid.all() else valid, np.clip(lengths - 1 - start, 0, stop - start - 1),
            (lengths > start) & (lengths <= stop),
        )  # fmt: skip


def group_rows(rows: np.ndarray, n_rows: int) -> Iterator[np.ndarray]:
    """The tokens of rows (n,) with equally many of them, as indices (B, T): each row's in order, the shortest first.

    >>> [group.tolist() for group in group_rows(np.array([2, 0, 0, 3]), n_rows=4)]
    [[[0], [3]], [[1, 2]]]
    """
    order, counts = np.argsort(rows, kind="stable"), np.bincount(rows, minlength=n_rows)
    ends = np.cumsum(counts)
    for n_tokens in np.unique(counts[counts > 0]):
        own = np.flatnonzero(counts == n_tokens)
        yield order[(ends[own] - n_tokens)[:, None] + np.arange(n_tokens)]


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
