"""Exercises of chapter 2: the weights of attention, the causal mask, several heads."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.initialization import init_weights

PAGE = "02"


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp(x) over its sum along an axis, from which the largest is subtracted first."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def scores(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """The products of queries (B, T, H, d) and keys (B, S, H, d), not scaled: (B, H, T, S)."""
    return np.einsum("bthd,bshd->bhts", query, key)


def attention_layer(package, d_model, n_heads, **matrices):
    """An attention layer of a package without biases, with these matrices (D, D) instead of random ones."""
    config = ModelConfig(
        kind="encoder", d_model=d_model, n_layers=1, n_heads=n_heads, d_ff=2, vocab_size=2,
        qkv_bias=False, output_bias=False,
    )  # fmt: skip
    weights = init_weights(config)
    prefix = "encoder.layers.0.self_attention"
    weights |= {f"{prefix}.{name}.weight": np.asarray(matrix, np.float32) for name, matrix in matrices.items()}
    return package.from_weights(config, weights).encoder.layers[0].self_attention


def multi_head(x, w_query, w_key, w_value, w_output, n_heads):
    """Multi-head attention by its definition: attention in each head, their concatenation through the output matrix."""
    query, key, value = (_split(x @ w, n_heads) for w in (w_query, w_key, w_value))
    heads = reference.scaled_dot_product_attention(query, key, value)  # (B, T, H, d)
    return heads.reshape(x.shape) @ w_output


def _split(x, n_heads):
    return x.reshape(*x.shape[:2], n_heads, -1)


def _solve_multi_head(package, x, w_query, w_key, w_value, w_output, n_heads):
    matrices = {"query": w_query, "key": w_key, "value": w_value, "output": w_output}
    return attention_layer(package, x.shape[-1], n_heads, **matrices)(x)


def _mixed_heads(x, w_query, w_key, w_value, w_output, n_heads):
    B, T, D = x.shape
    query, key, value = (_split(x @ w, n_heads) for w in (w_query, w_key, w_value))
    heads = reference.scaled_dot_product_attention(query, key, value)
    return heads.transpose(0, 2, 1, 3).reshape(B, T, D) @ w_output


def _scale_of_model(x, w_query, w_key, w_value, w_output, n_heads):
    query, key, value = (_split(x @ w, n_heads) for w in (w_query, w_key, w_value))
    heads = reference.scaled_dot_product_attention(query, key, value, scale=x.shape[-1] ** -0.5)
    return heads.reshape(x.shape) @ w_output


def _without_output(x, w_query, w_key, w_value, w_output, n_heads):
    return multi_head(x, w_query, w_key, w_value, np.eye(x.shape[-1]), n_heads)


def _summed_heads(x, w_query, w_key, w_value, w_output, n_heads):
    query, key, value = (_split(x @ w, n_heads) for w in (w_query, w_key, w_value))
    heads = reference.scaled_dot_product_attention(query, key, value)
    return np.tile(heads.sum(axis=2), n_heads) @ w_output


def _multi_head_cases(rng):
    for B, T, H, d in ((1, 3, 2, 5), (2, 5, 3, 7)):
        yield (numbers(rng, B, T, H * d), *(numbers(rng, H * d, H * d) / 4 for _ in range(4)), H)


EXERCISES = (
    Exercise(
        id="attention-weights",
        page=PAGE,
        grade=1,
        title="The weights of attention",
        signature="attention_weights(query, key)",
        statement="Return the attention weights A = softmax(Q K^T / sqrt(d)) of every head, of shape (B, H, T, S). "
        "query: (B, T, H, d); key: (B, S, H, d). Each row, over the S keys, sums to 1. There is no mask.",
        hints=(
            "First the scores: for each batch, head, query and key one dot product over d.",
            "`einsum` with 'bthd,bshd->bhts' makes them. d is the last axis of the query.",
            "Divide by the root of d, then softmax over the last axis, that of the keys.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, H, d), numbers(rng, B, S, H, d))
            for B, T, S, H, d in ((1, 3, 5, 2, 7), (2, 5, 11, 3, 7))
        ],
        oracle=reference.attention_weights,
        mistakes=(
            Mistake("This is the result without the factor 1 / sqrt(d).", lambda q, k: softmax(scores(q, k))),
            Mistake("This divides by d: the factor is 1 / sqrt(d).", lambda q, k: softmax(scores(q, k) / q.shape[-1])),
            Mistake(
                "This is softmax over the queries: each query's weights over the keys must sum to 1.",
                lambda q, k: softmax(scores(q, k) / q.shape[-1] ** 0.5, axis=2),
            ),
            Mistake(
                "These are the scores: softmax makes weights of them.", lambda q, k: scores(q, k) / q.shape[-1] ** 0.5
            ),
            Mistake(
                "This scales by the number of heads: d is the last axis of the query.",
                lambda q, k: softmax(scores(q, k) / q.shape[2] ** 0.5),
            ),
        ),
        solution="attention_weights",
        tools={
            "numpy": "np.einsum, np.exp, .max(axis=-1, keepdims=True)",
            "torch": "torch.einsum, torch.softmax",
            "tensorflow": "tf.einsum, tf.nn.softmax",
        },
    ),
    Exercise(
        id="causal-mask",
        page=PAGE,
        grade=2,
        title="The causal mask",
        signature="causal_mask(n_queries, n_keys)",
        statement="Return the causal mask as booleans (T, S), True where a query may look. The T queries are the "
        "last of the S positions, as they are when a cache holds the earlier ones: a query sees itself and "
        "everything before it.",
        hints=(
            "Give each query and each key its position, then compare the two.",
            "The first query stands at position S - T, not at 0.",
            "With positions of the queries as a column (T, 1) and of the keys as a row (1, S): key <= query.",
        ),
        inputs=lambda rng: [(3, 3), (1, 5), (5, 11)],
        oracle=reference.causal_mask,
        mistakes=(
            Mistake(
                "This mask is the other way round: True means that the query may look.",
                lambda t, s: ~reference.causal_mask(t, s),
            ),
            Mistake(
                "A query does not see itself here: its own position belongs to what it sees.",
                lambda t, s: np.arange(s) < np.arange(s - t, s)[:, None],
            ),
            Mistake(
                "This puts the queries at the first positions: they are the last T of the S.",
                lambda t, s: np.arange(s) <= np.arange(t)[:, None],
            ),
            Mistake(
                "This lets a query see the later positions and hides the earlier ones.",
                lambda t, s: np.arange(s) >= np.arange(s - t, s)[:, None],
            ),
        ),
        solution="causal_mask",
        tools={"numpy": "np.arange", "torch": "torch.arange", "tensorflow": "tf.range"},
    ),
    Exercise(
        id="multi-head",
        page=PAGE,
        grade=3,
        title="Several heads",
        signature="multi_head(x, w_query, w_key, w_value, w_output, n_heads)",
        statement="Return multi-head self-attention of x (B, T, D), of shape (B, T, D): project with the matrices "
        "(D, D), no biases; split the features into H heads of d = D / H neighbouring features; attend in each head, "
        "without a mask; put the outputs of the heads side by side in their order, and multiply by the output matrix.",
        hints=(
            "A product (B, T, D) becomes heads (B, T, H, d) by a reshape alone.",
            "The scale is that of one head, 1 / sqrt(D / H). The outputs come as (B, T, H, d) if the axes are named "
            "so.",
            "einsum 'bthd,bshd->bhts' for the scores, 'bhts,bshd->bthd' for the outputs, then a reshape to (B, T, D).",
        ),
        inputs=lambda rng: list(_multi_head_cases(rng)),
        oracle=multi_head,
        mistakes=(
            Mistake(
                "The outputs are in the order (B, H, T, d) when they are reshaped: that mixes positions with heads.",
                _mixed_heads,
            ),
            Mistake("This scales by the root of D: a head has d = D / H features.", _scale_of_model),
            Mistake("This is the concatenation of the heads without the output matrix.", _without_output),
            Mistake("This adds the heads: they are put side by side.", _summed_heads),
        ),
        solution="MultiHeadAttention",
        solve=_solve_multi_head,
        tools={
            "numpy": "np.einsum, .reshape",
            "torch": "torch.einsum, torch.softmax, .reshape",
            "tensorflow": "tf.einsum, tf.nn.softmax, tf.reshape",
        },
    ),
)
