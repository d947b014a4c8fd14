"""Exercises of chapter 4: softmax that does not overflow, a gated network, norms."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.concepts import softmax
from tfguide.exercises.entry import Exercise, Mistake, numbers

_ROOTS = {"numpy": ".mean, np.sqrt", "torch": ".mean, torch.sqrt", "tensorflow": "tf.reduce_mean, tf.sqrt"}


def swiglu(x, w_gate, w_up, w_down):
    """The gated network of Llama: the gate through x sigmoid(x), times the other half, and back to D."""
    return reference.activate("swiglu", x @ w_up, x @ w_gate) @ w_down


def _naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def _softmax_of_all(x):
    e = np.exp(x - x.max())
    return e / e.sum(axis=-1, keepdims=True)


def _solve_softmax(package, x):
    """Each row as the keys of one query that is 1, so that the scores are the row."""
    key = x[:, :, None, None]  # (N, S, 1, 1)
    return package.attention_weights(key[:, :1] * 0 + 1, key, scale=1.0)[:, 0, 0]


def _solve_swiglu(package, x, w_gate, w_up, w_down):
    return package.activate("swiglu", x @ w_up, x @ w_gate) @ w_down


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _centred(x, axis=-1):
    return x - x.mean(axis=axis, keepdims=True)


def _mean(x, axis=-1):
    return x.mean(axis=axis, keepdims=True)


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
        solve=_solve_softmax,
        tools={
            "numpy": "np.exp, .max(axis=-1, keepdims=True)",
            "torch": "torch.exp, .amax(dim=-1, keepdim=True)",
            "tensorflow": "tf.exp, tf.reduce_max(..., axis=-1, keepdims=True)",
        },
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
    Exercise(
        id="layer-norm",
        page="04d",
        grade=1,
        title="Layer normalisation",
        signature="layer_norm(x, weight, bias, eps)",
        statement="Return layer normalisation over the last axis of x (B, T, D): subtract the mean of the D features, "
        "divide by sqrt(variance + eps), multiply by `weight` (D,) and add `bias` (D,). The variance is the mean of "
        "the squares of what is left after the mean is subtracted.",
        hints=(
            "Each position has its own mean and variance, over its D features.",
            "The variance divides by D. Does the function that you call do so?",
            "c = x - mean; c / sqrt(mean of c * c + eps) * weight + bias, with the last axis kept.",
        ),
        inputs=lambda rng: [
            (numbers(rng, 1, 3, 5), numbers(rng, 5), numbers(rng, 5), 0.125),
            (numbers(rng, 2, 3, 7), numbers(rng, 7), numbers(rng, 7), 1e-5),
        ],
        oracle=reference.layer_norm,
        mistakes=(
            Mistake(
                "The variance divides by D - 1: the mean of the squares divides by D.",
                lambda x, w, b, eps: _centred(x) / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + eps) * w + b,
            ),
            Mistake(
                "eps is added to the root: it belongs inside, to the variance.",
                lambda x, w, b, eps: _centred(x) / (x.std(axis=-1, keepdims=True) + eps) * w + b,
            ),
            Mistake(
                "The mean is not subtracted.",
                lambda x, w, b, eps: x / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * w + b,
            ),
            Mistake(
                "Mean and variance are those of a feature over the positions: they are those of a position.",
                lambda x, w, b, eps: _centred(x, 1) / np.sqrt(x.var(axis=1, keepdims=True) + eps) * w + b,
            ),
        ),
        solution="layer_norm",
        tools=_ROOTS,
    ),
    Exercise(
        id="rms-norm",
        page="04d",
        grade=2,
        title="A norm without a mean",
        signature="rms_norm(x, weight, eps)",
        statement="Return root mean square normalisation over the last axis of x (B, T, D): divide by the root of "
        "the mean of the squares plus eps, and multiply by `weight` (D,).",
        hints=(
            "Nothing is subtracted.",
            "The root is that of a mean, not of a sum, and eps stands under it.",
            "x / sqrt(mean of x * x + eps) * weight, with the last axis kept.",
        ),
        inputs=lambda rng: [
            (numbers(rng, 1, 3, 5), numbers(rng, 5), 0.125),
            (numbers(rng, 2, 3, 7), numbers(rng, 7), 1e-6),
        ],
        oracle=reference.rms_norm,
        mistakes=(
            Mistake(
                "This is layer normalisation: the mean is not subtracted here.",
                lambda x, w, eps: reference.layer_norm(x, w, None, eps),
            ),
            Mistake(
                "This divides by the length of the vector: the squares are averaged, not summed.",
                lambda x, w, eps: x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + eps) * w,
            ),
            Mistake(
                "eps is added to the root: it belongs inside, to the mean of the squares.",
                lambda x, w, eps: x / (np.sqrt(_mean(x**2)) + eps) * w,
            ),
            Mistake(
                "The root is missing: this divides by the mean square.", lambda x, w, eps: x / (_mean(x**2) + eps) * w
            ),
        ),
        solution="rms_norm",
        tools=_ROOTS,
    ),
)
