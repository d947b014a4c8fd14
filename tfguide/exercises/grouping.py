"""Exercises of section 6.3: fewer key/value heads."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.compress.heads import pool_kv_heads
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.initialization import init_weights


def kv_head_of(n_heads, n_kv_heads):
    """The key/value head of each query head: neighbouring query heads share one."""
    return [head // (n_heads // n_kv_heads) for head in range(n_heads)]


def pool_heads(w_key, n_heads, n_kv_heads):
    """The columns of a key matrix (D, H d) with the mean of each group of neighbouring heads, (D, K d)."""
    D = len(w_key)
    return w_key.reshape(D, n_kv_heads, n_heads // n_kv_heads, -1).mean(axis=2).reshape(D, -1)


def _solve_pool(w_key, n_heads, n_kv_heads):
    config = ModelConfig(
        kind="encoder", d_model=len(w_key), n_layers=1, n_heads=n_heads, d_head=w_key.shape[1] // n_heads, d_ff=2,
        vocab_size=2, positions="learned", max_positions=2,
    )  # fmt: skip
    name = "encoder.layers.0.self_attention.key.weight"
    _, smaller = pool_kv_heads(config, init_weights(config) | {name: w_key}, n_kv_heads)
    return smaller[name]


def _group_cases(rng):
    for B, T, S, H, K, d in ((1, 2, 3, 6, 2, 5), (2, 3, 5, 6, 3, 7), (2, 2, 7, 5, 1, 3)):
        yield numbers(rng, B, T, H, d), numbers(rng, B, S, K, d), numbers(rng, B, S, K, d)


def _tiled_heads(query, key, value):
    G = query.shape[2] // key.shape[2]
    return reference.scaled_dot_product_attention(query, np.tile(key, (1, 1, G, 1)), np.tile(value, (1, 1, G, 1)))


def _first_head(query, key, value):
    return reference.scaled_dot_product_attention(query, key[:, :, :1], value[:, :, :1])


EXERCISES = (
    Exercise(
        id="kv-head-of",
        page="06c",
        grade=1,
        title="Which key/value head?",
        signature="kv_head_of(n_heads, n_kv_heads)",
        statement="Return a list of H integers: the key/value head, from 0 to K - 1, that each query head uses in "
        "grouped attention. K divides H.",
        hints=(
            "A group has H / K query heads, and they are neighbours.",
            "With H = 6 and K = 2 the groups are heads 0, 1, 2 and heads 3, 4, 5.",
            "head // (n_heads // n_kv_heads).",
        ),
        inputs=lambda rng: [(6, 2), (6, 3), (5, 1), (7, 7)],
        oracle=kv_head_of,
        mistakes=(
            Mistake(
                "Query heads take the key/value heads in turn: the heads of a group are neighbours.",
                lambda h, k: [head % k for head in range(h)],
            ),
            Mistake("This divides by K: a group has H / K query heads.", lambda h, k: [head // k for head in range(h)]),
        ),
        tensors=False,
    ),
    Exercise(
        id="grouped-heads",
        page="06c",
        grade=2,
        title="Grouped heads",
        signature="grouped_attention(query, key, value)",
        statement="Return scaled dot-product attention where H query heads share K key/value heads, of shape (B, T, "
        "H, d). query: (B, T, H, d); key and value: (B, S, K, d). Query head h uses key/value head h // (H / K). "
        "There is no mask.",
        hints=(
            "Either give every query head its own copy of a key/value head, or reshape the queries to (B, T, K, G, d).",
            "A copy repeats each head G times in a row: 0 0 0 1 1 1, not 0 1 0 1 0 1.",
            "einsum 'btkgd,bskd->bkgts' of the reshaped queries; softmax; 'bkgts,bskd->btkgd'; reshape to (B, T, H, "
            "d).",
        ),
        inputs=lambda rng: list(_group_cases(rng)),
        oracle=reference.scaled_dot_product_attention,
        mistakes=(
            Mistake(
                "Query heads take the key/value heads in turn: those of a group are neighbours. Repeat, do not tile.",
                _tiled_heads,
            ),
            Mistake("All query heads use the first key/value head.", _first_head),
        ),
        solution="scaled_dot_product_attention",
        tools={
            "numpy": "np.repeat, np.einsum, .reshape",
            "torch": "torch.repeat_interleave, torch.einsum, .unflatten",
            "tensorflow": "tf.repeat, tf.einsum, tf.reshape",
        },
    ),
    Exercise(
        id="pool-heads",
        page="06c",
        grade=3,
        title="Make fewer heads of many",
        signature="pool_heads(w_key, n_heads, n_kv_heads)",
        statement="A model with H key heads shall have K of them. Return the key matrix (D, K d), an array of NumPy, "
        "whose heads are the means of groups of H / K neighbouring heads of w_key (D, H d).",
        hints=(
            "The columns of w_key are heads of d features each.",
            "Cut the last axis into (K, G, d): which of them is averaged?",
            "w_key.reshape(D, K, H // K, d).mean(axis=2).reshape(D, K * d).",
        ),
        inputs=lambda rng: [(numbers(rng, 7, 6 * 5), 6, 2), (numbers(rng, 3, 5 * 2), 5, 1)],
        oracle=pool_heads,
        mistakes=(
            Mistake(
                "These are sums: keys would be G times as long. Take the mean.",
                lambda w, h, k: pool_heads(w, h, k) * (h // k),
            ),
            Mistake(
                "Every K-th head falls into one group: a group has neighbouring heads.",
                lambda w, h, k: w.reshape(len(w), h // k, k, -1).mean(axis=1).reshape(len(w), -1),
            ),
            Mistake(
                "This keeps the first head of each group: take the mean of all.",
                lambda w, h, k: w.reshape(len(w), k, h // k, -1)[:, :, 0].reshape(len(w), -1),
            ),
            Mistake(
                "Neighbouring columns are averaged: the columns of a head are d different features.",
                lambda w, h, k: w.reshape(len(w), -1, h // k).mean(axis=2),
            ),
        ),
        solution="tfguide.compress.heads:pool_kv_heads",
        solve=_solve_pool,
        tensors=False,
    ),
)
