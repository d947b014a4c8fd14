"""Greedy decoding: the token with the largest logit, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfguide.checks.shapes import check_token_range
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig


def greedy(logits: np.ndarray) -> np.ndarray:
    """The most likely token of each row: (B, V) to int64 (B,); the lowest id where two are equal.

    Raises ValueError where a logit is NaN: an argmax over NaN would be a token that nothing chose.
    """
    if np.isnan(logits).any():
        raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
    return np.argmax(logits, axis=-1)


def stopping(
    config: ModelConfig, max_new_tokens: int, stop_tokens: Sequence[int] | int | None
) -> tuple[int, frozenset[int]]:
    """When a row ends: after how many tokens, a plain integer, and with which tokens.

    stop_tokens: one or several; None stands for the configuration's `eos_token_ids`.

    Raises ValueError where `max_new_tokens` is below 1 or a stop token lies outside the vocabulary, TypeError for what
    is not an integer.
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
