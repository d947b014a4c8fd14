"""Exercises of chapter 3: the three algorithms, and rows that may look at nothing."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.concepts import attention_layer, scores, softmax
from tfguide.exercises.entry import Exercise, Mistake, numbers

PAGE = "03"


def split_heads(x, n_heads):
    """The features (B, T, H d) as heads (B, T, H, d), whose features are neighbours."""
    return x.reshape(*x.shape[:2], n_heads, -1)


def feed_forward(x, w_up, b_up, w_down, b_down):
    """The network of one block at every position: D to F, max(0, x), F to D."""
    return reference.activate("relu", x @ w_up + b_up) @ w_down + b_down


def _solve_split(package, x, n_heads):
    return attention_layer(package, x.shape[-1], n_heads, query=np.eye(x.shape[-1])).split_queries(x)


def _solve_feed_forward(package, x, w_up, b_up, w_down, b_down):
    return package.activate("relu", x @ w_up + b_up) @ w_down + b_down


def _hidden_as(low, query, key, value, visible):
    """Attention where hidden scores become `low` before softmax, and no row is looked at again."""
    found = np.where(visible, scores(query, key) * query.shape[-1] ** -0.5, low)
    return np.einsum("bhts,bshd->bthd", softmax(found), value)


def _masked_after(query, key, value, visible):
    weights = softmax(scores(query, key) * query.shape[-1] ** -0.5)
    return np.einsum("bhts,bshd->bthd", np.where(visible, weights, 0.0), value)


def _mask_cases(rng):
    some = np.ones((3, 5), bool)
    some[0, 1] = some[1, 3:] = some[2, 0] = False
    nothing = np.ones((5, 7), bool)
    nothing[2] = False
    nothing[:, 6] = False
    for visible, (B, H, d) in ((some, (1, 2, 3)), (nothing, (2, 3, 5))):
        T, S = visible.shape
        yield numbers(rng, B, T, H, d), numbers(rng, B, S, H, d), numbers(rng, B, S, H, d), visible


EXERCISES = (
    Exercise(
        id="scaled-dot-product",
        page=PAGE,
        grade=1,
        title="Scaled dot-product attention",
        signature="scaled_dot_product_attention(query, key, value)",
        statement="Return softmax(Q K^T / sqrt(d)) V of every head, of shape (B, T, H, d). query: (B, T, H, d); key "
        "and value: (B, S, H, d). There is no mask.",
        hints=(
            "The weights are those of the exercise attention-weights, (B, H, T, S).",
            "The output of a query is the mean of the values, weighted by its row of weights.",
            "einsum 'bhts,bshd->bthd' of the weights and the values.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, H, d), numbers(rng, B, S, H, d), numbers(rng, B, S, H, d))
            for B, T, S, H, d in ((1, 2, 3, 1, 5), (2, 5, 7, 3, 11))
        ],
        oracle=reference.scaled_dot_product_attention,
        mistakes=(
            Mistake(
                "The weights multiply the keys here: they belong to the values.",
                lambda q, k, v: reference.scaled_dot_product_attention(q, k, k),
            ),
            Mistake(
                "This is the result without the factor 1 / sqrt(d).",
                lambda q, k, v: reference.scaled_dot_product_attention(q, k, v, scale=1.0),
            ),
            Mistake(
                "The scores are not made positive and normalised: softmax is missing.",
                lambda q, k, v: np.einsum("bhts,bshd->bthd", scores(q, k) * q.shape[-1] ** -0.5, v),
            ),
            Mistake(
                "This is softmax over the queries: each query's weights over the keys must sum to 1.",
                lambda q, k, v: np.einsum("bhts,bshd->bthd", softmax(scores(q, k) * q.shape[-1] ** -0.5, axis=2), v),
            ),
        ),
        solution="scaled_dot_product_attention",
        tools={
            "numpy": "np.einsum, np.exp",
            "torch": "torch.einsum, torch.softmax",
            "tensorflow": "tf.einsum, tf.nn.softmax",
        },
    ),
    Exercise(
        id="split-heads",
        page=PAGE,
        grade=1,
        title="From features to heads",
        signature="split_heads(x, n_heads)",
        statement="Return x (B, T, D) as heads (B, T, H, d) with d = D / H. Head h holds the neighbouring features h "
        "d to (h + 1) d - 1 of its position.",
        hints=(
            "No number moves to another place in memory.",
            "The last axis is cut in two; which of the two parts is the outer one?",
            "Reshape to (B, T, n_heads, D // n_heads).",
        ),
        inputs=lambda rng: [(numbers(rng, B, T, H * d), H) for B, T, H, d in ((1, 3, 2, 5), (2, 5, 3, 7))],
        oracle=split_heads,
        mistakes=(
            Mistake(
                "The axes are (B, H, T, d): this package keeps the position before the head.",
                lambda x, h: split_heads(x, h).transpose(0, 2, 1, 3),
            ),
            Mistake(
                "A reshape to (B, H, T, d) gives a head the features of other positions.",
                lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1),
            ),
            Mistake(
                "Head h has every H-th feature here: a head's features are neighbours.",
                lambda x, h: x.reshape(*x.shape[:2], -1, h).swapaxes(2, 3),
            ),
        ),
        solution="MultiHeadAttention",
        solve=_solve_split,
        tools={"numpy": ".reshape", "torch": ".reshape, .unflatten", "tensorflow": "tf.reshape"},
    ),
    Exercise(
        id="feed-forward",
        page=PAGE,
        grade=2,
        title="The feed-forward network",
        signature="feed_forward(x, w_up, b_up, w_down, b_down)",
        statement="Return the feed-forward network of a block at every position of x (B, T, D), of shape (B, T, D): "
        "max(0, x W_1 + b_1) W_2 + b_2. w_up: (D, F), b_up: (F,), w_down: (F, D), b_down: (D,).",
        hints=(
            "Vectors are rows: they multiply the matrix from the left.",
            "The activation stands between the two products, and nothing stands behind the second.",
            "x @ w_up + b_up, then the larger of 0 and that, then @ w_down + b_down.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, D), numbers(rng, D, F), numbers(rng, F), numbers(rng, F, D), numbers(rng, D))
            for B, T, D, F in ((1, 2, 3, 7), (2, 3, 5, 11))
        ],
        oracle=feed_forward,
        mistakes=(
            Mistake(
                "The activation is missing: two products in a row are one product.",
                lambda x, w1, b1, w2, b2: (x @ w1 + b1) @ w2 + b2,
            ),
            Mistake(
                "The activation is applied to the output as well: it stands between the products only.",
                lambda x, w1, b1, w2, b2: np.maximum(0, feed_forward(x, w1, b1, w2, b2)),
            ),
            Mistake(
                "The first bias is added after the activation: it belongs inside.",
                lambda x, w1, b1, w2, b2: (np.maximum(0, x @ w1) + b1) @ w2 + b2,
            ),
            Mistake(
                "This adds x: the residual belongs to the block, not to the network.",
                lambda x, w1, b1, w2, b2: x + feed_forward(x, w1, b1, w2, b2),
            ),
        ),
        solution="FeedForward",
        solve=_solve_feed_forward,
        tools={"numpy": "@, np.maximum", "torch": "@, torch.relu", "tensorflow": "@, tf.nn.relu"},
    ),
    Exercise(
        id="masked-attention",
        page=PAGE,
        grade=3,
        title="Attention under any mask",
        signature="masked_attention(query, key, value, visible)",
        statement="Return scaled dot-product attention where a query sees only the keys that `visible` (T, S) allows, "
        "True = may look; of shape (B, T, H, d). query: (B, T, H, d); key and value: (B, S, H, d). The output of a "
        "query that may look at nothing is 0.",
        hints=(
            "Hide scores before softmax: weights that are cut afterwards no longer sum to 1.",
            "Minus infinity everywhere in a row makes 0 / 0. The lowest finite number does not, but it makes weights.",
            "Put the lowest finite number where `visible` is False, take softmax, then put 0 where `visible` is False.",
        ),
        inputs=lambda rng: list(_mask_cases(rng)),
        oracle=reference.scaled_dot_product_attention,
        mistakes=(
            Mistake(
                "This is the result without the mask.",
                lambda q, k, v, visible: reference.scaled_dot_product_attention(q, k, v),
            ),
            Mistake(
                "The mask is the other way round: True means that the query may look.",
                lambda q, k, v, visible: reference.scaled_dot_product_attention(q, k, v, ~visible),
            ),
            Mistake("The mask cuts weights after softmax: what is left of a row no longer sums to 1.", _masked_after),
            Mistake(
                "Hidden scores become 0 here, and exp(0) = 1 is a weight like any other.",
                lambda *arguments: _hidden_as(0.0, *arguments),
            ),
            Mistake(
                "A query that may look at nothing gives NaN: softmax over minus infinity alone is 0 / 0.",
                lambda *arguments: _hidden_as(-np.inf, *arguments),
            ),
            Mistake(
                "A query that may look at nothing takes the mean of all values: its weights must become 0 after "
                "softmax.",
                lambda *arguments: _hidden_as(-1e30, *arguments),
            ),
        ),
        solution="scaled_dot_product_attention",
        tools={
            "numpy": "np.einsum, np.where, np.finfo(np.float64).min",
            "torch": "torch.einsum, torch.where, torch.finfo(torch.float32).min",
            "tensorflow": "tf.einsum, tf.where, tf.float32.min",
        },
    ),
)
