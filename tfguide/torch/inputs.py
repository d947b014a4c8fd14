"""A model's inputs as tensors on its device, checked against its configuration."""

from __future__ import annotations

import torch

from tfguide.checks.shapes import check_token_range, check_token_types, check_tokens, check_valid, check_vectors
from tfguide.generation.checks import check_cached_call, check_padding_at_end
from tfguide.torch.tensors import as_tensor


def as_tokens(model, tokens, valid=None, name="tokens"):
    """Token ids, or vectors instead of them, and their padding mask as tensors. Raises TypeError or ValueError."""
    tokens, config = as_tensor(tokens, model.device), model.config
    if config.d_input is None:
        integer = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
        check_tokens(name, tuple(tokens.shape), integer, tokens.dtype, config.max_positions)
        _check_range(name, tokens, config.vocab_size)
        tokens = tokens.long()
    else:
        floating = tokens.is_floating_point()
        check_vectors(name, tuple(tokens.shape), floating, tokens.dtype, config.d_input, config.max_positions)
        tokens = tokens.to(model.dtype)
    if valid is not None:
        valid = as_tensor(valid, model.device)
        check_valid("valid", tuple(valid.shape), valid.dtype == torch.bool, valid.dtype, tuple(tokens.shape[:2]))
    return tokens, valid


def as_token_types(model, tokens, token_types):
    """Token types as a tensor; None stays None. Raises TypeError or ValueError."""
    if token_types is None:
        return None
    token_types = as_tensor(token_types, tokens.device)
    integer = not (token_types.is_floating_point() or token_types.dtype == torch.bool)
    check_tokens("token_types", tuple(token_types.shape), integer, token_types.dtype)
    check_token_types(model.config, tuple(token_types.shape), tuple(tokens.shape))
    _check_range("token_types", token_types, model.config.n_token_types)
    return token_types.long()


def extend(model, tokens, valid, cache, record):
    """The view of a cache to which the tokens (B, T) are appended; None without a cache. Raises ValueError."""
    if cache is None:
        return None
    check_cached_call(model.config, cache.config, cache.batch_size, tokens.shape[0], record is not None)
    if valid is not None:
        check_padding_at_end(bool((valid[:, 1:] <= valid[:, :-1]).all()))
    return cache.extend(tokens.shape[1], count_tokens(tokens, valid))


def positions_of(tokens, view):
    """The positions of tokens (B, T): (1, T) from 0, or (B, T) after those in a cache."""
    return torch.arange(tokens.shape[1], device=tokens.device)[None] if view is None else view.positions


def count_tokens(tokens, valid):
    """The number of real tokens in each row, for a cache: one number for all rows, or an array (B,)."""
    return tokens.shape[1] if valid is None else valid.sum(dim=1).cpu().numpy()


def _check_range(name, tokens, vocab_size):
    if not torch.compiler.is_compiling():  # a traced graph has no values to look at
        lowest, highest = tokens.aminmax()
        check_token_range(name, int(lowest), int(highest), vocab_size)
