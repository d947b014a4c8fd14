"""Exercises of section 6.2: what a cache keeps, and where."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.generation.rings import ring_positions


def kv_cache_step(query, key, value, past_key, past_value):
    """New tokens that attend to the cache and to themselves, and the cache that they leave behind."""
    key, value = np.concatenate([past_key, key], axis=1), np.concatenate([past_value, value], axis=1)
    visible = reference.causal_mask(query.shape[1], key.shape[1])
    return reference.scaled_dot_product_attention(query, key, value, visible), key, value


def cache_positions(lengths, n_tokens):
    """The positions of new tokens, (B, T): behind those that a row's cache holds already."""
    return lengths[:, None] + np.arange(n_tokens)


def _solve_step(package, query, key, value, past_key, past_value):
    (B, S, K, d), T = past_key.shape, query.shape[1]
    config = ModelConfig(kind="decoder", d_model=K * d, n_layers=1, n_heads=K, d_ff=2, vocab_size=2)
    cache = package.KVCache(config, B, S + T)
    past = cache.extend(S)
    past.append(0, (past_key, past_value))
    past.commit(S)
    key, value = cache.extend(T).append(0, (key, value))
    output = package.scaled_dot_product_attention(query, key, value, package.causal_mask(T, S + T))
    return output, key, value


def _attend(query, key, value, past_key, past_value, visible):
    _, all_keys, all_values = kv_cache_step(query, key, value, past_key, past_value)
    return reference.scaled_dot_product_attention(query, all_keys, all_values, visible), all_keys, all_values


def _all_visible(query, key, value, past_key, past_value):
    return _attend(query, key, value, past_key, past_value, None)


def _from_zero(query, key, value, past_key, past_value):
    T, S = query.shape[1], past_key.shape[1]
    return _attend(query, key, value, past_key, past_value, np.arange(S + T) <= np.arange(T)[:, None])


def _past_alone(query, key, value, past_key, past_value):
    _, keys, values = kv_cache_step(query, key, value, past_key, past_value)
    return reference.scaled_dot_product_attention(query, past_key, past_value), keys, values


def _new_alone(query, key, value, past_key, past_value):
    _, keys, values = kv_cache_step(query, key, value, past_key, past_value)
    visible = reference.causal_mask(query.shape[1])
    return reference.scaled_dot_product_attention(query, key, value, visible), keys, values


def _in_front(query, key, value, past_key, past_value):
    output, _, _ = kv_cache_step(query, key, value, past_key, past_value)
    return output, np.concatenate([key, past_key], axis=1), np.concatenate([value, past_value], axis=1)


def _not_kept(query, key, value, past_key, past_value):
    return kv_cache_step(query, key, value, past_key, past_value)[0], past_key, past_value


def _step_cases(rng):
    for B, T, S, H, d in ((1, 2, 3, 2, 5), (2, 1, 5, 3, 7), (2, 3, 7, 1, 5)):
        yield tuple(numbers(rng, B, n, H, d) for n in (T, T, T, S, S))


EXERCISES = (
    Exercise(
        id="cache-positions",
        page="06b",
        grade=1,
        title="Where do new tokens stand?",
        signature="cache_positions(lengths, n_tokens)",
        statement="The rows of a batch have caches with `lengths` (B,) tokens in them, an integer array of NumPy. "
        "Return the positions, counted from 0, at which `n_tokens` new tokens of each row stand, integers (B, T).",
        hints=(
            "The first new token of a row whose cache holds 3 tokens stands at position 3.",
            "Rows differ: a column (B, 1) and a row (T,) add up to (B, T).",
            "lengths[:, None] + np.arange(n_tokens).",
        ),
        inputs=lambda rng: [(np.array([3, 5, 0]), 2), (np.array([11, 7]), 1)],
        oracle=cache_positions,
        mistakes=(
            Mistake(
                "Positions begin at 0 for each call: new tokens stand behind those in the cache.",
                lambda lengths, n: np.broadcast_to(np.arange(n), (len(lengths), n)),
            ),
            Mistake(
                "All positions are one too high: the cache holds positions 0 to length - 1.",
                lambda lengths, n: cache_positions(lengths, n) + 1,
            ),
            Mistake(
                "All rows stand where the longest one does: each has its own length.",
                lambda lengths, n: cache_positions(np.full_like(lengths, lengths.max()), n),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="kv-cache",
        page="06b",
        grade=2,
        title="A step with a cache",
        signature="kv_cache_step(query, key, value, past_key, past_value)",
        statement="Return three tensors: the outputs (B, T, H, d) of T new tokens, and the keys and the values of "
        "the cache behind them, (B, S + T, H, d). query, key and value belong to the new tokens, (B, T, H, d); "
        "past_key and past_value are the cache so far, (B, S, H, d). A new token sees the cache, itself, and the new "
        "tokens before it.",
        hints=(
            "First the cache grows, then the queries attend to all of it.",
            "With more than one new token the mask is causal, and the queries are the last T of the S + T positions.",
            "Join the keys along axis 1, and the values; visible is arange(S + T) <= arange(S, S + T)[:, None].",
        ),
        inputs=lambda rng: list(_step_cases(rng)),
        oracle=kv_cache_step,
        mistakes=(
            Mistake("This is the result without the causal mask: a new token sees those behind it.", _all_visible),
            Mistake(
                "The mask puts the new tokens at the first positions: they are the last T of the S + T.", _from_zero
            ),
            Mistake(
                "The new tokens see the cache only: each sees itself as well. Append before you attend.", _past_alone
            ),
            Mistake("The new tokens see each other only, and not the cache.", _new_alone),
            Mistake("The new keys and values stand in front of the old ones: they belong behind them.", _in_front),
            Mistake("The cache that is returned is the old one: the new keys and values are lost.", _not_kept),
        ),
        solution="KVCache",
        solve=_solve_step,
        tools={
            "numpy": "np.concatenate, np.einsum, np.where",
            "torch": "torch.cat, torch.einsum, torch.where",
            "tensorflow": "tf.concat, tf.einsum, tf.where",
        },
    ),
    Exercise(
        id="ring-slots",
        page="06b",
        grade=3,
        title="What does a ring hold?",
        signature="ring_positions(lengths, slots)",
        statement="A layer with a window keeps the newest positions only, in a ring: position p lies in slot p modulo "
        "`slots`. The rows have seen `lengths` (B,) tokens, an integer array of NumPy. Return the position that lies "
        "in each slot, integers (B, slots), and -1 where nothing was written yet.",
        hints=(
            "Slot s holds the largest position p below the length with p % slots == s.",
            "From the newest position, length - 1, how far back is the newest one in slot s? (newest - s) % slots.",
            "newest - (newest - arange(slots)) % slots, and -1 where that is negative.",
        ),
        inputs=lambda rng: [(np.array([3, 7, 5]), 5), (np.array([0, 23]), 7)],
        oracle=ring_positions,
        mistakes=(
            Mistake(
                "This is what each slot held at first: newer positions have taken the place of older ones.",
                lambda lengths, n: np.where(np.arange(n) < lengths[:, None], np.arange(n), -1),
            ),
            Mistake(
                "Slots that were never written have a negative position: say -1.",
                lambda lengths, n: (lengths[:, None] - 1) - (lengths[:, None] - 1 - np.arange(n)) % n,
            ),
            Mistake(
                "The newest position is length - 1, not the length.", lambda lengths, n: ring_positions(lengths + 1, n)
            ),
            Mistake(
                "The newest positions stand here in their order: each lies in its own slot.",
                lambda lengths, n: np.maximum(lengths[:, None] - n + np.arange(n), -1),
            ),
        ),
        solution="tfguide.generation.rings:ring_positions",
        tensors=False,
    ),
)
