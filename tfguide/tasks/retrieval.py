"""Which passages speak about a question: by their words (BM25), by vectors of their meaning, and by both.

Sources: Robertson & Zaragoza 2009 (BM25); Cormack et al. 2009 (reciprocal rank fusion); Karpukhin et al. 2020 (dense
passages). Scores are (m,) for m passages, more is better.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.facts import keep, key_of, recall
from tfguide.tasks import minilm
from tfguide.tasks.questions import Passage

# Words that a question has whatever it asks for. Keywords of Python among them stay out of passages as well.
_STOP = (
    "a an and are as at be by can could do does for from had has have how i if in into is it its may me more must my "
    "not of on one or should so than that the their then there these they this to was what when where which who why "
    "will with would you your"
)
STOP_WORDS = frozenset(_STOP.split())
_ENDINGS = ("ing", "ed", "es", "s", "ly")


def terms(text: str) -> list[str]:
    """The words of a text in lower case, without stop words, each without its ending.

    >>> terms("How do I split strings at spaces?")
    ['split', 'string', 'spac']
    """
    return [_stem(word) for word in re.findall(r"[a-z0-9_]+", text.lower()) if word not in STOP_WORDS]


class Bm25:
    """The scores of texts by the words that they share with a query. Source: Robertson & Zaragoza 2009, eq. 3.15.

    A word counts by how rare it is, ln(1 + (m - n + 1/2) / (n + 1/2)) for one that n of m texts have. f occurrences in
    a text count f (k1 + 1) / (f + k1 (1 - b + b length / mean length)), which never exceeds k1 + 1.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75):
        counts = [Counter(terms(text)) for text in texts]
        lengths = np.array([sum(one.values()) for one in counts], np.float64)
        self.k1, self._n_texts = k1, len(counts)
        self._scale = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9))
        self._places: dict[str, list[tuple[int, int]]] = {}  # of each word, the texts that have it and how often
        for place, own in enumerate(counts):
            for word, count in own.items():
                self._places.setdefault(word, []).append((place, count))

    def scores(self, query: str) -> np.ndarray:
        """The score of each text, float64 (m,)."""
        result = np.zeros(self._n_texts)
        for word in set(terms(query)):
            if found := self._places.get(word):
                at, count = np.array(found).T
                result[at] += self._rarity(len(found)) * count * (self.k1 + 1) / (count + self._scale[at])
        return result

    def shares(self, query: str) -> np.ndarray:
        """The scores as shares of the most that a text could have: it has every word of the query, without end."""
        most = sum(self._rarity(len(self._places.get(word, ()))) for word in set(terms(query))) * (self.k1 + 1)
        return self.scores(query) / most if most else np.zeros(self._n_texts)

    def _rarity(self, n):
        return math.log(1 + (self._n_texts - n + 0.5) / (n + 0.5))


def reciprocal_rank_fusion(scores: Iterable[np.ndarray], k: int = 60) -> np.ndarray:
    """One score of several: the sum of 1 / (k + place) over the orders, places from 1. Source: Cormack et al. 2009."""
    total: Any = 0.0
    for own in scores:
        places = np.empty(len(own))
        places[np.argsort(-own, kind="stable")] = np.arange(1, len(own) + 1)
        total = total + 1 / (k + places)
    return total


@dataclass(frozen=True)
class Found:
    """A passage, the cosine of its vector with the question's, and the score by which it was found."""

    passage: Passage
    near: float
    score: float


class Index:
    """Passages with their vectors (m, D), each of length 1, to search by words and meaning.

    The score of a passage is the cosine of its vector with the question's plus `by_words` times its share of BM25.
    Raises ValueError where there is no passage, or not a vector for each.
    """

    def __init__(self, passages: Sequence[Passage], vectors: np.ndarray, by_words: float = 1.0):
        if not len(passages) or len(passages) != len(vectors):
            raise ValueError(f"expected a vector for each passage, got {len(vectors)} for {len(passages)}")
        self.passages, self.vectors, self.by_words = list(passages), np.asarray(vectors), by_words
        self._words = Bm25([one.text for one in passages])

    def scores(self, question: str, vector: np.ndarray) -> np.ndarray:
        """The score of each passage (m,) for a question and its vector (D,) of length 1."""
        return self.vectors @ vector + self.by_words * self._words.shares(question)

    def search(self, question: str, vector: np.ndarray, n: int = 5) -> list[Found]:
        """The n passages with the highest scores, the best first."""
        scores = self.scores(question, vector)
        best = np.argsort(-scores, kind="stable")[: check_count("n", n)]
        return [Found(self.passages[i], float(self.vectors[i] @ vector), float(scores[i])) for i in best]


def embed(
    encode: Callable[[np.ndarray, np.ndarray], np.ndarray],
    texts: Sequence[str],
    size: int = 32,
    tell: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The vectors of texts by MiniLM, float32 (n, D); `size` texts of like length are computed together.

    encode: tokens and their mask, (B, T) each, to vectors (B, D), such as `tfguide.loading.sentence_encoder` makes.
    tell: is called with the number of texts that are done, after each batch. Raises as `minilm.batch`.
    """
    tokens, valid = minilm.batch(texts)
    lengths = valid.sum(axis=1)
    order, parts = np.argsort(lengths, kind="stable"), []
    for start in range(0, len(order), check_count("size", size)):
        rows = order[start : start + size]
        longest = lengths[rows].max()
        parts.append(np.asarray(encode(tokens[rows, :longest], valid[rows, :longest]), np.float32))
        if tell is not None:
            tell(start + len(rows))
    result = np.empty((len(texts), parts[0].shape[1]), np.float32)
    result[order] = np.concatenate(parts)
    return result


def kept_vectors(file: Path, texts: Sequence[str], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The vectors of texts by the model in a file, from the folder of `tfguide.facts`; computed where it has none."""
    seen = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    key = key_of([file], "vectors", seen)
    kept = recall("vectors", key)
    if kept is not None:
        return np.frombuffer(base64.b85decode(kept), np.float32).reshape(len(texts), -1)
    vectors = np.ascontiguousarray(compute(), np.float32)
    keep("vectors", key, base64.b85encode(vectors.tobytes()).decode())
    return vectors


def _stem(word):
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
