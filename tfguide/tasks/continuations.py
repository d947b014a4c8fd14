"""A task for a language model: which of four continuations belongs to a text?

The questions are made from the documentation of Python that the book's model was not trained on. A model answers by
likelihood, so it needs no instruction, and chance is one in four.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation.perplexity import token_log_probabilities
from tfguide.tasks import documentation

READ, ANSWER = 24, 8  # words that are read, and words of a continuation
CHOICES = 4


@dataclass(frozen=True)
class Question:
    """What is read, the continuations to choose from, each with the space before it, and the number of the right one.

    topic: the number of the document that it is from.
    """

    text: str
    choices: tuple[str, ...]
    answer: int
    topic: int


def questions(n: int = 200, seed: int = 0, documents: Sequence[str] | None = None) -> list[Question]:
    """`n` questions, spread evenly over the text and always the same for a seed.

    Documents are cut into pieces of READ + ANSWER words. The wrong continuations are those of three pieces of other
    documents. documents: at least two; default: the held-out ones of `tfguide.tasks.documentation`. Raises ValueError
    for more questions than there are pieces, and where the other documents have too few of them.
    """
    n = check_count("n", n)
    if documents is None:
        documents = documentation.held_out().split(documentation.END)
    pieces = [(topic, piece) for topic, text in enumerate(documents) for piece in _pieces(text)]
    if len(pieces) < max(n, CHOICES):
        raise ValueError(f"the documents make {len(pieces)} questions at most, got n={n}")
    draws, result = np.random.default_rng(seed), []
    for at in np.linspace(0, len(pieces) - 1, n).round().astype(int):
        topic, (text, right) = pieces[at]
        others = sorted({other for own, (_, other) in pieces if own != topic and other != right})
        if len(others) < CHOICES - 1:
            raise ValueError(f"expected at least {CHOICES - 1} pieces of other documents, got {len(others)}")
        wrong = draws.choice(others, CHOICES - 1, replace=False).tolist()
        answer = int(draws.integers(CHOICES))
        choices = (*wrong[:answer], right, *wrong[answer:])
        result.append(Question(text, choices, answer, topic))
    return result


def log_likelihoods(model: Any, tokenizer: Any, question: Question) -> list[float]:
    """The log probability of each continuation after the text, divided by its bytes: longer ones are not worse.

    The text is read once, into a cache that forgets each continuation again. Raises ValueError as `score`.
    """
    text = tokenizer.encode(question.text).ids
    parts = [tokenizer.encode(choice).ids for choice in question.choices]
    cache = model.new_cache(1, len(text) + max(map(len, parts)))
    first = model.score(np.array([text]), cache, 1)[0]
    found = []
    for choice, part in zip(question.choices, parts, strict=True):
        rest = model.score(np.array([part]), cache)[0]
        logits = np.concatenate([np.asarray(first), np.asarray(rest)[:-1]])
        cache.rewind(len(text))
        found.append(token_log_probabilities(logits, np.array(part)).sum() / len(choice.encode()))
    return found


def accuracy(model: Any, tokenizer: Any, asked: Sequence[Question]) -> float:
    """The share of questions to which the right continuation is the most likely one. Raises ValueError as `score`."""
    right = sum(int(np.argmax(log_likelihoods(model, tokenizer, one))) == one.answer for one in asked)
    return right / len(asked)


def standard_error(share: float, n: int) -> float:
    """The standard error of a share of n independent questions.

    >>> round(standard_error(0.8, 100), 3)
    0.04
    """
    return math.sqrt(share * (1 - share) / n)


def _pieces(text):
    """(what is read, what follows) of each READ + ANSWER words of a document."""
    words = text.split()
    for start in range(0, len(words) - READ - ANSWER + 1, READ + ANSWER):
        middle = start + READ
        yield " ".join(words[start:middle]), "".join(f" {word}" for word in words[middle : middle + ANSWER])
