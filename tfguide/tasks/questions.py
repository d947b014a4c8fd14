"""Question answering from real documentation: passages, questions with the passage that answers each, and two scores.

The passages are those of the Python that runs. A question names its answer by words that stand in it, so it holds for
every version of Python; 62 questions were written by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfguide.checks.values import check_count
from tfguide.tasks import documentation
from tfguide.tasks.docstrings import sentences

WORDS = 120  # of a passage, about: MiniLM reads 256 tokens, and what stands behind them does not count
_QUESTIONS = Path(__file__).parent / "questions.json"
_UNANSWERABLE = Path(__file__).parent / "unanswerable.json"
_UNDERLINE = re.compile(r"^(\S.*)\n([*=\-~^\"]){4,}\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Passage:
    """A piece of a document, the document's name, and the heading with which the text begins, if there is one."""

    source: str
    text: str
    heading: str = field(default="", compare=False)


@dataclass(frozen=True)
class Question:
    """A question, and quotations of which one stands in every passage that answers it."""

    text: str
    quotes: tuple[str, ...]


def passages(texts: Mapping[str, str] | None = None, words: int = WORDS) -> list[Passage]:
    """Documents cut at blank lines into passages of about so many words, each under the last heading before it.

    A paragraph stays whole unless it has more words than a passage; then it is cut between two sentences. texts: by
    name; default: the topics of `help()`.
    """
    words = check_count("words", words)
    if texts is None:
        texts = {name: text for name, text in documentation.documents().items() if name.startswith("topics/")}
    return [Passage(name, piece, head) for name, text in texts.items() for head, piece in _pieces(text, words)]


def questions(path: str | os.PathLike | None = None) -> list[Question]:
    """The questions of this task, or those of a file of your own: JSON, a list of {"question": ..., "quotes": [...]}.

    Raises ValueError for a file that is something else.
    """
    file = _QUESTIONS if path is None else Path(path)
    try:
        found = [
            Question(one["question"], tuple(one["quotes"])) for one in json.loads(file.read_text(encoding="utf-8"))
        ]
        if not found or not all(one.text and one.quotes and all(map(_words_of, one.quotes)) for one in found):
            raise ValueError("a question has no text or no quotation")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f'{file}: expected a list of {{"question": ..., "quotes": [...]}}: {error!r}') from error
    return found


def unanswerable() -> dict[str, list[str]]:
    """Questions that this documentation does not answer: "far" from programming, and "near", about other tools."""
    return json.loads(_UNANSWERABLE.read_text(encoding="utf-8"))


def answers(question: Question, among: Sequence[Passage]) -> list[int]:
    """The places of the passages that answer a question: those in which one of its quotations stands."""
    quotes = [_words_of(quote) for quote in question.quotes]
    return [i for i, one in enumerate(among) if any(quote in _words_of(one.text) for quote in quotes)]


def recall_at(k: int, ranked: np.ndarray, right: Sequence[Sequence[int]]) -> float:
    """The share of questions that one of the first `k` passages answers. right: the answers of each question.

    Raises ValueError where a question has no answer, or the numbers of questions differ.
    """
    k = check_count("k", k)
    return float(np.mean([place < k for place in _first_places(ranked, right)]))


def mean_reciprocal_rank(ranked: np.ndarray, right: Sequence[Sequence[int]]) -> float:
    """The mean of 1 / the place of the first passage that answers, counted from 1. Raises as `recall_at`."""
    return float(np.mean([1 / (place + 1) for place in _first_places(ranked, right)]))


def _first_places(ranked, right):
    if len(ranked) != len(right) or not len(right):
        raise ValueError(f"expected an order of passages for each question, got {len(ranked)} for {len(right)}")
    for i, own in enumerate(right):
        if not len(own):
            raise ValueError(f"question {i} has no passage that answers it")
    return [int(np.flatnonzero(np.isin(row, own))[0]) for row, own in zip(ranked, right, strict=True)]


def _words_of(text):
    return " ".join(text.split())


def _pieces(text, words):
    """Headings and below each whole paragraphs together, as long as they have not more words than a passage."""
    heading, own, used = "", [], True
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if title := _UNDERLINE.match(paragraph):
            if own:
                yield heading, _joined(heading, own)
            heading = title[1].strip() if used else f"{heading}: {title[1].strip()}"
            own, used = [], False
            paragraph = paragraph[title.end() :].strip()
        for part in _parts(paragraph, words):
            if own and sum(len(one.split()) for one in own) + len(part.split()) > words:
                yield heading, _joined(heading, own)
                own = []
            own.append(part)
            used = True
    if own:
        yield heading, _joined(heading, own)


def _joined(heading, paragraphs):
    return "\n\n".join([heading] * bool(heading) + paragraphs)


def _parts(paragraph, words):
    """A paragraph, or where it has too many words, its sentences in parts of fewer."""
    if len(paragraph.split()) <= words:
        return [paragraph] if paragraph else []
    found = [""]
    for sentence in sentences(paragraph):
        if found[-1] and len(f"{found[-1]} {sentence}".split()) > words:
            found.append("")
        found[-1] = f"{found[-1]} {sentence}".strip()
    return found
