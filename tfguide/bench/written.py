"""What a continuation is like: how likely its own model finds it, what it repeats, and how many of its pairs differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.generation.perplexity import token_log_probabilities

REPEATED, DISTINCT = 4, 2  # tokens of a group that is looked for again, and of one that is counted once


def judge(model: Any, prompts: np.ndarray, written: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Continuations of the prompts (N, T) under the model: means over all their tokens.

    "mean_log_probability": of a token, in nats, at temperature 1; "repeated": see `repeated_share`; "distinct": the
    share of the pairs of neighbours in all continuations together that are different ones (Li et al. 2016); "tokens":
    the first continuation.
    """
    losses = []
    for prompt, text in zip(prompts, written, strict=True):
        whole = np.concatenate([prompt, np.asarray(text, np.int64)])
        logits = np.asarray(model.score(whole[None, :-1], None, len(text)))[0]
        losses.append(token_log_probabilities(logits, whole[-len(text) :]))
    pairs = [pair for text in written for pair in groups(text, DISTINCT)]
    return {
        "mean_log_probability": float(np.concatenate(losses).mean()),
        "repeated": float(np.mean([repeated_share(text) for text in written])),
        "distinct": len(set(pairs)) / len(pairs),
        "tokens": list(map(int, written[0])),
    }


def repeated_share(text: Sequence[int], n: int = REPEATED) -> float:
    """The share of the groups of n neighbours that stood in the text before: 0 if none does, near 1 in a loop.

    >>> repeated_share([1, 2, 1, 2, 1, 2], 2)
    0.6
    """
    some = groups(text, n)
    return 1 - len(set(some)) / len(some)


def groups(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    """The groups of n neighbours of a text, in its order. Raises ValueError where the text is shorter."""
    if len(text) < n:
        raise ValueError(f"expected a text of {n} tokens or more, got {len(text)}")
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
