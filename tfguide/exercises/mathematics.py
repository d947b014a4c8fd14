"""Exercises of sections 4.1 to 4.3: softmax and its gradient, the heads as a sum, activations."""

from __future__ import annotations

import math

import numpy as np

from tfguide import reference
from tfguide.exercises.concepts import softmax
from tfguide.exercises.entry import Exercise, Mistake, numbers


def swiglu(x, w_gate, w_up, w_down):
    """The gated network of Llama: the gate through x sigmoid(x), times the other half, and back to D."""
    return reference.activate("swiglu", x @ w_up, x @ w_gate) @ w_down


def softmax_gradient(weights, upstream):
    """The gradient of a loss with respect to scores, from that with respect to their softmax."""
    return weights * (upstream - (weights * upstream).sum(axis=-1, keepdims=True))


def sum_of_heads(heads, w_output):
    """The product of the joined heads (B, T, H, d) and w_output (H d, D), as a sum over the heads."""
    H, d = heads.shape[2:]
    return np.einsum("bthd,hdm->btm", heads, w_output.reshape(H, d, -1))


def gelu(x):
    """The exact GELU, x times the probability that a standard normal variable is below it."""
    return reference.activate("gelu", x)


def _naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def _softmax_of_all(x):
    e = np.exp(x - x.max())
    return e / e.sum(axis=-1, keepdims=True)


def attention_softmax(package, x):
    """Each row as the keys of one query that is 1, so that the scores are the row."""
    key = x[:, :, None, None]  # (N, S, 1, 1)
    return package.attention_weights(key[:, :1] * 0 + 1, key, scale=1.0)[:, 0, 0]


def _solve_gelu(package, x):
    return package.activate("gelu", x)


def _solve_swiglu(package, x, w_gate, w_up, w_down):
    return package.activate("swiglu", x @ w_up, x @ w_gate) @ w_down


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _float32(x):
    return x.astype(np.float32).astype(np.float64)


EXERCISES = (
    Exercise(
        id="stable-softmax",
        page="04a",
        grade=1,
        title="Softmax that does not overflow",
        signature="softmax(x)",
        statement="Return softmax over the last axis of x (N, S), without the framework's own function. The numbers "
        "may be as large as 1000 and as small as -1000 in every row.",
        hints=(
            "exp(1000) is infinity in every type, and softmax does not change if a number is taken from all of a row.",
            "Which number makes the largest exponent 0?",
            "Subtract the maximum of each row, with its axis kept; then exp, then divide by the sum.",
        ),
        inputs=lambda rng: [
            (numbers(rng, 3, 5),),
            (np.array([[1009.0, 1007.0, 997.0], [-1013.0, -1009.0, -1010.0], [0.5, 2.0, -0.25]]),),
        ],
        oracle=softmax,
        mistakes=(
            Mistake("exp overflows or becomes 0 for a whole row: subtract the row's maximum first.", _naive_softmax),
            Mistake(
                "The maximum is that of the whole array: in a row that lies far below it every exp is 0, and 0 / 0 "
                "is NaN.",
                _softmax_of_all,
            ),
            Mistake("This is softmax over the first axis: each row must sum to 1.", lambda x: softmax(x, axis=0)),
            Mistake("This is the logarithm of softmax.", lambda x: np.log(softmax(x))),
        ),
        solution="attention_weights",
        solve=attention_softmax,
        tools={
            "numpy": "np.exp, .max(axis=-1, keepdims=True)",
            "torch": "torch.exp, .amax(dim=-1, keepdim=True)",
            "tensorflow": "tf.exp, tf.reduce_max(..., axis=-1, keepdims=True)",
        },
    ),
    Exercise(
        id="softmax-gradient",
        page="04a",
        grade=3,
        title="The gradient of softmax",
        signature="softmax_gradient(weights, upstream)",
        statement="weights (T, S) is a softmax over the last axis, and upstream (T, S) the gradient of a loss with "
        "respect to these weights. Return the gradient of the loss with respect to the scores, (T, S), without "
        "automatic differentiation.",
        hints=(
            "d weight_j / d score_i is weight_j ((i = j) - weight_i).",
            "Summed over j this is weight_i times (upstream_i minus something that is the same for the whole row).",
            "weights * (upstream - sum of weights * upstream over the last axis, with the axis kept).",
        ),
        inputs=lambda rng: [(_float32(softmax(numbers(rng, T, S))), numbers(rng, T, S)) for T, S in ((2, 3), (5, 7))],
        oracle=softmax_gradient,
        mistakes=(
            Mistake(
                "Only the diagonal is there, as if each weight depended on its own score alone.",
                lambda weights, upstream: weights * (1 - weights) * upstream,
            ),
            Mistake(
                "The sum is not weighted: it is that of weights * upstream.",
                lambda weights, upstream: weights * (upstream - upstream.sum(axis=-1, keepdims=True)),
            ),
            Mistake(
                "The factor `weights` in front is missing.",
                lambda weights, upstream: upstream - (weights * upstream).sum(axis=-1, keepdims=True),
            ),
            Mistake(
                "The sum runs over the queries: each row has its own.",
                lambda weights, upstream: weights * (upstream - (weights * upstream).sum(axis=0)),
            ),
        ),
        tools={
            "numpy": ".sum(axis=-1, keepdims=True)",
            "torch": ".sum(dim=-1, keepdim=True)",
            "tensorflow": "tf.reduce_sum",
        },
    ),
    Exercise(
        id="sum-of-heads",
        page="04b",
        grade=2,
        title="The output matrix by heads",
        signature="sum_of_heads(heads, w_output)",
        statement="Return the concatenation of the heads (B, T, H, d) times w_output (H d, D), of shape (B, T, D), "
        "without concatenating: as the sum over the heads of each one times its own rows of the matrix.",
        hints=(
            "Head h reads the rows h d to (h + 1) d - 1.",
            "A reshape makes (H, d, D) of the matrix.",
            "einsum 'bthd,hdm->btm' of the heads and the reshaped matrix.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, H, d), numbers(rng, H * d, D)) for B, T, H, d, D in ((1, 2, 3, 2, 5), (2, 3, 2, 5, 7))
        ],
        oracle=sum_of_heads,
        mistakes=(
            Mistake(
                "The heads are added before the product, and all read the same rows: each has its own.",
                lambda heads, w: heads.sum(axis=2) @ w[: heads.shape[-1]],
            ),
            Mistake(
                "A head has every H-th row here: its rows are neighbours.",
                lambda heads, w: sum_of_heads(heads.swapaxes(2, 3), w),
            ),
            Mistake(
                "This is the mean over the heads: it is their sum.",
                lambda heads, w: sum_of_heads(heads, w) / heads.shape[2],
            ),
        ),
        tools={"numpy": "np.einsum", "torch": "torch.einsum", "tensorflow": "tf.einsum"},
    ),
    Exercise(
        id="gelu",
        page="04c",
        grade=1,
        title="A smooth activation",
        signature="gelu(x)",
        statement="Return the exact GELU of x (B, T, F), without the framework's own function: each number times the "
        "probability that a standard normal variable is below it, (1 + erf(x / sqrt(2))) / 2.",
        hints=(
            "Large positive numbers stay as they are, large negative ones become 0.",
            "The probability is a factor of x.",
            "x * (1 + erf(x / sqrt(2))) / 2.",
        ),
        inputs=lambda rng: [(numbers(rng, 1, 3, 5) * 2,), (numbers(rng, 2, 3, 7),)],
        oracle=gelu,
        mistakes=(
            Mistake(
                "This is the approximation with tanh: the exact one is asked for.",
                lambda x: reference.activate("gelu_tanh", x),
            ),
            Mistake(
                "This is x sigmoid(1.702 x), another approximation: the exact one is asked for.",
                lambda x: x * _sigmoid(1.702 * x),
            ),
            Mistake(
                "This is the probability alone: it multiplies x.",
                lambda x: (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2,
            ),
            Mistake(
                "The root of 2 is missing: this is x (1 + erf(x)) / 2.",
                lambda x: x * (1 + np.vectorize(math.erf)(x)) / 2,
            ),
        ),
        solution="activate",
        solve=_solve_gelu,
        tools={"numpy": "np.vectorize(math.erf)", "torch": "torch.erf", "tensorflow": "tf.math.erf"},
    ),
    Exercise(
        id="swiglu",
        page="04c",
        grade=2,
        title="A gated network",
        signature="swiglu(x, w_gate, w_up, w_down)",
        statement="Return the feed-forward network of Llama at every position of x (B, T, D), of shape (B, T, D): "
        "(silu(x W_gate) * (x W_up)) W_down with silu(u) = u sigmoid(u). w_gate and w_up: (D, F), w_down: (F, D). "
        "There are no biases.",
        hints=(
            "Two products of x, each (B, T, F); one of them goes through silu.",
            "The gate goes through silu, the other one stays as it is; they are multiplied number by number.",
            "g = x @ w_gate; (g * sigmoid(g) * (x @ w_up)) @ w_down.",
        ),
        inputs=lambda rng: [
            (numbers(rng, B, T, D), numbers(rng, D, F), numbers(rng, D, F), numbers(rng, F, D))
            for B, T, D, F in ((1, 2, 3, 7), (2, 3, 5, 11))
        ],
        oracle=swiglu,
        mistakes=(
            Mistake(
                "The other half goes through silu: it is the gate that does.",
                lambda x, gate, up, down: swiglu(x, up, gate, down),
            ),
            Mistake(
                "The gate goes through sigmoid: silu is the number times its sigmoid.",
                lambda x, gate, up, down: (_sigmoid(x @ gate) * (x @ up)) @ down,
            ),
            Mistake(
                "The two halves are added: the gate multiplies.",
                lambda x, gate, up, down: (x @ gate * _sigmoid(x @ gate) + x @ up) @ down,
            ),
            Mistake(
                "The gate is not activated: the product of two linear maps alone.",
                lambda x, gate, up, down: ((x @ gate) * (x @ up)) @ down,
            ),
        ),
        solution="activate",
        solve=_solve_swiglu,
        tools={"numpy": "@, np.exp", "torch": "@, torch.sigmoid", "tensorflow": "@, tf.sigmoid"},
    ),
)
