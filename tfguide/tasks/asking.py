"""What answers a question from documents: the passage, whether one fits at all, and the sentence to quote."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfguide.tasks import documentation, minilm
from tfguide.tasks.answering import LEAST, LIKELY, Reader, split_sentences
from tfguide.tasks.questions import Passage, passages
from tfguide.tasks.retrieval import Found, Index, embed, kept_vectors

PAGES = 8  # passages that the language model reads before it answers from the best

Encode = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Finding:
    """The passages that were found for a question, the best first, whether one fits, and the first one's sentence.

    sentence: the one that is nearest to the question, to quote; empty where nothing fits.
    """

    question: str
    found: list[Found]
    fits: bool
    sentence: str

    @property
    def passage(self) -> Passage:
        """The best passage."""
        return self.found[0].passage


class Search:
    """Passages to search, with the encoder that makes vectors of questions and sentences.

    encode: see `tfguide.loading.sentence_encoder`. vectors: of the passages, (m, D). least: the score of the best
    passage below which nothing fits. Raises as `Index`.
    """

    def __init__(self, encode: Encode, among: Sequence[Passage], vectors: np.ndarray, least: float = LEAST):
        self.encode, self.index, self.least = encode, Index(among, vectors), least

    def look_up(self, question: str, reader: Reader | None = None, n: int = PAGES) -> Finding:
        """The n best passages for a question, and the sentence of the first that is nearest to it.

        reader: reads them and says which the question fits best; default: the order of `Index.search`.
        Raises ValueError for a question that is too long for the reader.
        """
        [vector] = embed(self.encode, [question])
        found = self.index.search(question, vector, n)
        if found[0].score < self.least:
            return Finding(question, found, False, "")
        if reader is not None and n > 1:
            found = rerank(found, [reader.likelihood(one.passage.text, question) for one in found])
        return Finding(question, found, True, self._sentence(found[0].passage, question, vector))

    def _sentence(self, passage, question, vector):
        found = split_sentences(passage.text.removeprefix(passage.heading)) or [passage.text]
        return found[best_sentence(question, vector, found, embed(self.encode, found))]


def best_sentence(question: str, vector: np.ndarray, sentences: Sequence[str], vectors: np.ndarray) -> int:
    """The place of the sentence that fits a question best, by its vector (n, D) and its words, as a passage is found.

    vector: the question's, (D,). Raises ValueError where there is no sentence.
    """
    among = Index([Passage("", one) for one in sentences], vectors)
    return int(np.argmax(among.scores(question, vector)))


def rerank(found: Sequence[Found], likelihoods: Sequence[float], weight: float = LIKELY) -> list[Found]:
    """Passages by their scores plus `weight` times the mean log-likelihood of the question after each."""
    better = [replace(one, score=one.score + weight * own) for one, own in zip(found, likelihoods, strict=True)]
    return sorted(better, key=lambda one: -one.score)


def open_search(
    encode: Encode,
    documents: str | os.PathLike | None = None,
    tell: Callable[[int, int], None] | None = None,
    least: float = LEAST,
) -> Search:
    """A search in the documentation of the Python that runs, or in documents of your own, by MiniLM's vectors.

    The vectors of the passages are computed once and kept until a text or the model changes. encode: MiniLM, see
    `tfguide.loading.sentence_encoder`. documents: see `documentation.documents`. tell: is called with the number of
    passages that are done and that of all. Raises as `minilm.folder` and `documentation.documents`.
    """
    among = passages(None if documents is None else documentation.documents(documents))
    model = minilm.folder() / "model.safetensors"
    texts = [one.text for one in among]
    told = None if tell is None else lambda done: tell(done, len(texts))
    vectors = kept_vectors(model, texts, lambda: embed(encode, texts, tell=told))
    return Search(encode, among, vectors, least)
