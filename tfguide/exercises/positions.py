"""Exercises of section 4.5: sinusoids and rotations."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.entry import Exercise, Mistake, numbers


def _sinusoids(positions, d_model, exponents):
    angles = positions[..., None] * 10000.0**-exponents
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(*positions.shape, d_model)


def _pairs(x, cos, sin):
    """The rotation of neighbouring features (2i, 2i + 1)."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = cos[:, :, None], sin[:, :, None]
    return np.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1).reshape(x.shape)


def _one_product(x, cos, sin):
    cos, sin = (np.concatenate([part, part], axis=-1)[:, :, None] for part in (cos, sin))
    return x * cos + np.roll(x, x.shape[-1] // 2, axis=-1) * sin


def _rotation_cases(rng):
    for B, T, H, d in ((1, 3, 2, 6), (2, 5, 3, 14)):
        angles = numbers(rng, B, T, d // 2)
        yield numbers(rng, B, T, H, d), *(f(angles).astype(np.float32).astype(np.float64) for f in (np.cos, np.sin))


EXERCISES = (
    Exercise(
        id="sinusoids",
        page="04e",
        grade=2,
        title="Sinusoidal positions",
        signature="sinusoidal_positions(positions, d_model)",
        statement="Return the sinusoidal encoding of the integers `positions` (B, T), of shape (B, T, D). Feature 2i "
        "is sin(position * 10000 ** (-2i / D)), feature 2i + 1 the cosine of the same angle.",
        hints=(
            "There are D / 2 angles for each position: an outer product of positions and frequencies.",
            "Sines and cosines alternate: they are stacked on a new last axis, and that is flattened.",
            "angles = positions[..., None] * 10000 ** (-arange(0, D, 2) / D); stack sin and cos; reshape to (B, T, D).",
        ),
        inputs=lambda rng: [(np.arange(5)[None], 6), (np.array([[3, 1, 17], [2, 11, 7]]), 10)],
        oracle=reference.sinusoidal_positions,
        mistakes=(
            Mistake(
                "All sines come first, then all cosines: here they alternate.",
                lambda p, d: np.concatenate(
                    [f(p[..., None] * 10000.0 ** -(np.arange(0, d, 2) / d)) for f in (np.sin, np.cos)], axis=-1
                ),
            ),
            Mistake(
                "The exponent is -i / D for pair i: it is -2i / D, so that the last wave is about 10000 times as long.",
                lambda p, d: _sinusoids(p, d, np.arange(d // 2) / d),
            ),
            Mistake(
                "Cosines stand at the even features: the sine comes first.",
                lambda p, d: (
                    reference.sinusoidal_positions(p, d).reshape(*p.shape, -1, 2)[..., ::-1].reshape(*p.shape, d)
                ),
            ),
            Mistake(
                "Every feature has a frequency of its own: a sine and its cosine share one.",
                lambda p, d: np.where(
                    np.arange(d) % 2 == 0,
                    np.sin(p[..., None] * 10000.0 ** -(np.arange(d) / d)),
                    np.cos(p[..., None] * 10000.0 ** -(np.arange(d) / d)),
                ),
            ),
        ),
        solution="sinusoidal_positions",
        tools={
            "numpy": "np.arange, np.stack, .reshape",
            "torch": "torch.arange, torch.stack, .flatten(-2)",
            "tensorflow": "tf.range, tf.stack, tf.reshape",
        },
    ),
    Exercise(
        id="rope",
        page="04e",
        grade=3,
        title="Rotary positions",
        signature="rotate(x, cos, sin)",
        statement="Turn each pair of features of the heads x (B, T, H, d) by its angle; return (B, T, H, d). The "
        "pairs are (i, i + d/2), as in the published weights of Llama. cos and sin, (B, T, d / 2), belong to the "
        "angles of the positions and are the same for every head. A pair (a, b) becomes (a cos - b sin, b cos + a "
        "sin).",
        hints=(
            "Cut the last axis into its two halves: a and b.",
            "cos and sin need an axis for the heads, of size 1, before they can be multiplied with a and b.",
            "concatenate [a * cos - b * sin, b * cos + a * sin] along the last axis.",
        ),
        inputs=lambda rng: list(_rotation_cases(rng)),
        oracle=reference.rotate,
        mistakes=(
            Mistake("The pairs are neighbours, (2i, 2i + 1): here they are (i, i + d/2).", _pairs),
            Mistake(
                "This turns the other way: a becomes a cos - b sin.", lambda x, cos, sin: reference.rotate(x, cos, -sin)
            ),
            Mistake("The minus is missing: a becomes a cos - b sin, and only b has a plus.", _one_product),
        ),
        solution="rotate",
        tools={
            "numpy": "np.split, np.concatenate",
            "torch": ".chunk(2, dim=-1), torch.cat",
            "tensorflow": "tf.split, tf.concat",
        },
    ),
)
