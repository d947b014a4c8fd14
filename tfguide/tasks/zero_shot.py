"""A language model as a classifier that was trained for nothing: which label would it write behind the text?

The labels have lengths of their own, and some words are likely whatever stands before them. So there are three ways to
compare them. Source: Brown et al. 2020, sections 2.4 and 3; Holtzman et al. 2021 for the labels without a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checks.values import check_choice, check_count
from tfguide.generation.perplexity import token_log_probabilities
from tfguide.tasks.docstrings import label_names

WAYS = ("sum", "mean", "gain")
MAX_TOKENS = 64  # of a text


@dataclass(frozen=True)
class Likelihoods:
    """Log probabilities of the labels: behind each text (n, N), and alone, behind none (N,); lengths: tokens (N,)."""

    behind: np.ndarray
    alone: np.ndarray
    lengths: np.ndarray

    def scores(self, way: str) -> np.ndarray:
        """The scores of the labels (n, N), of which the largest is the answer.

        way: "sum" is the log probability; "mean" divides it by the tokens of the label; "gain" takes away what the
        label has without a text. Raises ValueError for another way.
        """
        check_choice("way", way, WAYS)
        if way == "mean":
            return self.behind / self.lengths
        return self.behind - self.alone if way == "gain" else self.behind


def prefix(labels: Sequence[str] | None = None) -> str:
    """What is read before every text: the labels to choose from. labels: default `label_names()`."""
    labels = label_names() if labels is None else labels
    return f"The subject of each text about Python is one of: {', '.join(labels)}.\n\nText: "


def likelihoods(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Likelihoods:
    """How likely a language model finds each label behind each text, cut to `max_tokens`.

    What stands before the texts is read once, and each text once: the cache forgets a label, and then a text, again.
    labels: default `label_names()`. Raises ValueError as the model's `score`.
    """
    max_tokens = check_count("max_tokens", max_tokens)
    labels = label_names() if labels is None else labels
    first, end = (tokenizer.encode(part).ids for part in (prefix(labels), "\nSubject:"))
    names = [tokenizer.encode(f" {label}").ids for label in labels]
    cache = model.new_cache(1, len(first) + max_tokens + len(end) + max(map(len, names)))
    model.score(np.array([first]), cache, 1)

    def behind(text):
        part = tokenizer.encode(text).ids[:max_tokens] + end
        before = np.asarray(model.score(np.array([part]), cache, 1))[0]
        found = []
        for name in names:
            rest = np.asarray(model.score(np.array([name]), cache))[0]
            found.append(token_log_probabilities(np.concatenate([before, rest[:-1]]), np.array(name)).sum())
            cache.rewind(len(first) + len(part))
        cache.rewind(len(first))
        return found

    rows = [behind(text) for text in ["N/A", *texts]]
    return Likelihoods(np.array(rows[1:]), np.array(rows[0]), np.array([len(name) for name in names]))
