"""A model's inputs as tensors, checked against its configuration."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfguide.checks.shapes import check_token_range, check_token_types, check_tokens, check_valid, check_vectors
from tfguide.generation.checks import check_cached_call, check_padding_at_end


def as_tokens(model, tokens, valid=None, name="tokens"):
    """Token ids, or vectors instead of them, and their padding mask as tensors. Raises TypeError or ValueError."""
    tokens, config = tf.convert_to_tensor(tokens), model.config
    if config.d_input is None:
        check_tokens(name, tuple(tokens.shape), tokens.dtype.is_integer, tokens.dtype.name, config.max_positions)
        tokens = tf.cast(_in_range(name, tokens, config.vocab_size), tf.int32)
    else:
        floating = tokens.dtype.is_floating
        check_vectors(name, tuple(tokens.shape), floating, tokens.dtype.name, config.d_input, config.max_positions)
        tokens = tf.cast(tokens, model.compute_dtype)
    if valid is not None:
        valid = tf.convert_to_tensor(valid)
        check_valid("valid", tuple(valid.shape), valid.dtype == tf.bool, valid.dtype.name, tuple(tokens.shape[:2]))
    return tokens, valid


def as_token_types(model, tokens, token_types):
    """Token types as a tensor; None stays None. Raises TypeError or ValueError."""
    if token_types is None:
        return None
    token_types = tf.convert_to_tensor(token_types)
    check_tokens("token_types", tuple(token_types.shape), token_types.dtype.is_integer, token_types.dtype.name)
    check_token_types(model.config, tuple(token_types.shape), tuple(tokens.shape))
    token_types = _in_range("token_types", token_types, model.config.n_token_types)
    return tf.cast(token_types, tf.int32)


def extend(model, tokens, valid, cache, record):
    """The view of a cache to which the tokens (B, T) are appended; None without a cache. Raises ValueError."""
    if cache is None:
        return None
    check_cached_call(model.config, cache.config, cache.batch_size, tokens.shape[0], record is not None)
    if valid is not None:
        check_padding_at_end(bool(tf.reduce_all(valid[:, :-1] | ~valid[:, 1:])))
    return cache.extend(tokens.shape[1], count_tokens(tokens, valid))


def positions_of(tokens, view):
    """The positions of tokens (B, T): (1, T) from 0, or (B, T) after those in a cache."""
    return tf.range(tf.shape(tokens)[1])[None] if view is None else view.positions


def count_tokens(tokens, valid):
    """The number of real tokens in each row, for a cache: one number for all rows, or an array (B,)."""
    return tokens.shape[1] if valid is None else np.sum(valid.numpy(), axis=1)


def _in_range(name, tokens, vocab_size):
    """The tokens, checked. A traced graph has no values to look at yet: there the check runs before their first use."""
    if tf.executing_eagerly():
        check_token_range(name, int(tf.reduce_min(tokens)), int(tf.reduce_max(tokens)), vocab_size)
        return tokens
    message = f"{name} must lie between 0 and {vocab_size - 1}"
    within = [
        tf.debugging.assert_non_negative(tokens, message),
        tf.debugging.assert_less(tokens, tf.cast(vocab_size, tokens.dtype), message),
    ]
    with tf.control_dependencies([check for check in within if check is not None]):  # None: decided while tracing
        return tf.identity(tokens)
