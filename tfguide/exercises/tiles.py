"""Exercises of section 6.4: windows, sinks, and softmax in tiles."""

from __future__ import annotations

import numpy as np

from tfguide import reference
from tfguide.exercises.entry import Exercise, Mistake, numbers

PAGE = "06d"
_RANGES = {"numpy": "np.arange", "torch": "torch.arange", "tensorflow": "tf.range"}


def window_mask(n_queries, n_keys, window):
    """The causal mask in which a query sees itself and the `window - 1` positions before it."""
    return reference.causal_mask(n_queries, n_keys, window)


def sink_mask(n_tokens, window, n_sinks):
    """The causal mask of a window, and the first positions, which every later query sees as well."""
    return reference.causal_mask(n_tokens, window=window) | reference.causal_mask(n_tokens) & (
        np.arange(n_tokens) < n_sinks
    )


def merge_tiles(maximum, total, output, other_maximum, other_total, other_output):
    """Two parts of the keys as one: each part is brought to the larger maximum, then they are added."""
    top = np.maximum(maximum, other_maximum)
    one, other = np.exp(maximum - top), np.exp(other_maximum - top)
    return top, one * total + other * other_total, one[:, None] * output + other[:, None] * other_output


def _distances(n_queries, n_keys):
    return np.arange(n_keys - n_queries, n_keys)[:, None] - np.arange(n_keys)


def _unscaled(m, l, o, m2, l2, o2):
    return np.maximum(m, m2), l + l2, o + o2


def _first_kept(m, l, o, m2, l2, o2):
    """The first part is not brought to the larger maximum."""
    top = np.maximum(m, m2)
    factor = np.exp(m2 - top)
    return top, l + factor * l2, o + factor[:, None] * o2


def _normalised(m, l, o, m2, l2, o2):
    top, total, output = merge_tiles(m, l, o, m2, l2, o2)
    return top, total, output / total[:, None]


def _turned(m, l, o, m2, l2, o2):
    top = np.maximum(m, m2)
    one, other = np.exp(top - m), np.exp(top - m2)
    return top, one * l + other * l2, one[:, None] * o + other[:, None] * o2


def _tile_cases(rng):
    for T, S, d in ((3, 5, 2), (5, 7, 3)):
        parts = []
        for size in (S, 2):
            scores, values = numbers(rng, T, size) * 3, numbers(rng, size, d)
            top = scores.max(axis=1)
            weights = np.exp(scores - top[:, None])
            parts += [np.float32(part).astype(np.float64) for part in (top, weights.sum(axis=1), weights @ values)]
        yield tuple(parts)


EXERCISES = (
    Exercise(
        id="window-mask",
        page=PAGE,
        grade=1,
        title="A sliding window",
        signature="window_mask(n_queries, n_keys, window)",
        statement="Return the mask of a sliding window as booleans (T, S), True where a query may look: at itself "
        "and at the `window` - 1 positions before it. The T queries are the last of the S positions.",
        hints=(
            "Write the distance of each query from each key: position of the query minus position of the key.",
            "A distance of 0 is the query itself; which is the largest that is still visible?",
            "0 <= distance < window.",
        ),
        inputs=lambda rng: [(5, 5, 3), (2, 7, 3), (3, 11, 1)],
        oracle=window_mask,
        mistakes=(
            Mistake(
                "The window has one position too many: the query itself is one of them.",
                lambda t, s, window: window_mask(t, s, window + 1),
            ),
            Mistake(
                "The window looks ahead as well: later positions are never visible.",
                lambda t, s, window: np.abs(_distances(t, s)) < window,
            ),
            Mistake("This is the causal mask without a window.", lambda t, s, window: reference.causal_mask(t, s)),
            Mistake(
                "A query does not see itself.",
                lambda t, s, window: (_distances(t, s) > 0) & (_distances(t, s) <= window),
            ),
        ),
        solution="causal_mask",
        tools=_RANGES,
    ),
    Exercise(
        id="sink-mask",
        page=PAGE,
        grade=2,
        title="A window with sinks",
        signature="sink_mask(n_tokens, window, n_sinks)",
        statement="Return the mask (T, T) of a text of T tokens, True where a query may look: at itself, at the "
        "`window` - 1 positions before it, and at those of the first `n_sinks` positions that are not behind it.",
        hints=(
            "Two masks, joined by or.",
            "A sink in the future is hidden like everything else there.",
            "0 <= distance, and (distance < window or key < n_sinks).",
        ),
        inputs=lambda rng: [(7, 2, 3), (11, 3, 2)],
        oracle=sink_mask,
        mistakes=(
            Mistake(
                "The first queries see sinks that stand behind them: the mask stays causal.",
                lambda t, window, sinks: window_mask(t, t, window) | (np.arange(t) < sinks),
            ),
            Mistake("The sinks are missing.", lambda t, window, sinks: window_mask(t, t, window)),
            Mistake(
                "The sinks are visible only within the window.",
                lambda t, window, sinks: window_mask(t, t, window) & (np.arange(t) < sinks),
            ),
        ),
        tools=_RANGES,
    ),
    Exercise(
        id="online-softmax",
        page=PAGE,
        grade=3,
        title="Two tiles as one",
        signature="merge_tiles(maximum, total, output, other_maximum, other_total, other_output)",
        statement="Attention over some keys is kept as three tensors: the maximum m (T,) of the scores, the total l "
        "(T,) of exp(score - m), and the output o (T, d), the sum of exp(score - m) times the values, not divided "
        "yet. Return m, l and o of two parts of the keys taken together.",
        hints=(
            "Which maximum do both parts together have?",
            "A sum of exp(score - m) becomes one of exp(score - M) if it is multiplied by exp(m - M).",
            "M = max(m, m'); l exp(m - M) + l' exp(m' - M), and the same of o, with a new last axis for the factors.",
        ),
        inputs=lambda rng: list(_tile_cases(rng)),
        oracle=merge_tiles,
        mistakes=(
            Mistake("The parts are added as they are: each belongs to another maximum.", _unscaled),
            Mistake("Only the second part is brought to the new maximum: the first one needs it too.", _first_kept),
            Mistake("The output is divided already: that comes once, behind the last tile.", _normalised),
            Mistake("The factors are exp(M - m): they are exp(m - M), at most 1.", _turned),
        ),
        solution="tiled_attention",
        solve=lambda package, *parts: merge_tiles(*(np.asarray(part, np.float64) for part in parts)),
        tools={
            "numpy": "np.maximum, np.exp",
            "torch": "torch.maximum, torch.exp",
            "tensorflow": "tf.maximum, tf.exp",
        },
    ),
)
