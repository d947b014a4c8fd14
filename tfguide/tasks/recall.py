"""Recall at a distance: keys with their values lie in noise, and a key comes again. The text is synthetic.

A text is a row of tokens of three kinds. A fact is a key and the value behind it. Where a key comes a second time, the
right next token is its value; of everything else nothing can be known. So a model that answers has found the key in the
text, at whatever distance, and read what stands behind it. Source: the task of Arora et al. 2023, "Zoology", with noise.
"""

from __future__ import annotations

import numpy as np

from tfguide.checks.values import check_count

N_KEYS, N_VALUES, N_NOISE = 24, 24, 16  # tokens of each kind
VOCABULARY = N_KEYS + N_VALUES + N_NOISE  # keys come first, then values, then noise
N_FACTS, TIMES = 4, 4  # of a text, and how often each is there
NO_LABEL = -1


def lessons(
    rng: np.random.Generator, rows: int, length: int, n_facts: int = N_FACTS, times: int = TIMES
) -> tuple[np.ndarray, np.ndarray]:
    """Texts to learn from, (B, T) int64, and labels (B, T): the value where a key comes again, elsewhere NO_LABEL.

    Each of `n_facts` keys comes `times` times, with its value behind it, at random places. Raises ValueError where they
    do not fit into `length` tokens, or there are fewer keys than facts.
    """
    rows, length, times = check_count("rows", rows), check_count("length", length), check_count("times", times, least=2)
    _check_fit(length, 2 * times * n_facts, n_facts)
    tokens, facts = _noise(rng, rows, length), _facts(rng, rows, n_facts)
    starts = _places(rng, rows, times * n_facts, length)  # of pairs, in order
    order = rng.permuted(np.tile(np.repeat(np.arange(n_facts), times), (rows, 1)), axis=1)  # the fact of each pair
    first = np.stack([(order == fact).argmax(axis=1) for fact in range(n_facts)], axis=1)  # (B, n): where a key is new
    every = np.arange(rows)[:, None]
    tokens[every, starts], tokens[every, starts + 1] = (facts[every, order, part] for part in (0, 1))
    labels = np.full((rows, length), NO_LABEL)
    labels[every, starts] = facts[every, order, 1]
    labels[every, starts[every, first]] = NO_LABEL
    return tokens, labels


def questions(
    rng: np.random.Generator, rows: int, length: int, distance: int, n_facts: int = N_FACTS
) -> tuple[np.ndarray, np.ndarray]:
    """Texts (B, T) whose last token is the key of a fact that stands `distance` tokens before it, and answers (B,).

    distance: from the fact's key to its repetition; the other facts lie anywhere. Raises ValueError where the fact
    would not lie within `length` tokens, or as `lessons`.
    """
    rows, length = check_count("rows", rows), check_count("length", length)
    distance = check_count("distance", distance, least=2)
    _check_fit(length - 1, 2 * n_facts, n_facts)
    at = length - 1 - distance
    if at < 0:
        raise ValueError(f"a fact at the distance {distance} does not lie within {length} tokens")
    tokens, facts = _noise(rng, rows, length), _facts(rng, rows, n_facts)
    rest = _places(rng, rows, n_facts - 1, length - 3)  # as if the asked fact were not there
    rest += np.where(rest + 1 >= at, 2, 0) if n_facts > 1 else 0
    every = np.arange(rows)[:, None]
    starts = np.concatenate([np.full((rows, 1), at), rest], axis=1)
    tokens[every, starts], tokens[every, starts + 1] = facts[..., 0], facts[..., 1]
    tokens[:, -1] = facts[:, 0, 0]
    return tokens, facts[:, 0, 1]


def _check_fit(room, needed, n_facts):
    check_count("n_facts", n_facts)
    if n_facts > N_KEYS:
        raise ValueError(f"n_facts must be at most the {N_KEYS} keys, got {n_facts}")
    if room < needed:
        raise ValueError(f"{n_facts} facts need {needed} tokens, got {room}")


def _noise(rng, rows, length):
    return rng.integers(N_KEYS + N_VALUES, VOCABULARY, (rows, length))


def _facts(rng, rows, n_facts):
    """Keys that differ within a row, and any values: (B, n, 2)."""
    keys = rng.permuted(np.tile(np.arange(N_KEYS), (rows, 1)), axis=1)[:, :n_facts]
    return np.stack([keys, rng.integers(N_KEYS, N_KEYS + N_VALUES, keys.shape)], axis=2)


def _places(rng, rows, n, length):
    """The first places of n pairs that do not overlap in `length` tokens, in order: (B, n)."""
    free = np.tile(np.arange(length - n), (rows, 1))  # each pair counts as one place here
    return np.sort(rng.permuted(free, axis=1)[:, :n], axis=1) + np.arange(n)
