"""Exercises of section 4.4: the norms."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.entry import Exercise, Mistake, numbers

_ROOTS = {"numpy": ".mean, np.sqrt", "torch": ".mean, torch.sqrt", "tensorflow": "tf.reduce_mean, tf.sqrt"}


def _centred(x, axis=-1):
    return x - x.mean(axis=axis, keepdims=True)


def _mean(x, axis=-1):
    return x.mean(axis=axis, keepdims=True)


EXERCISES = (
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
