"""Sentences for a tagger of roles: MiniLM's pieces of words, the predicate marked, and tags for words again.

The first piece of a word has its tag, the others have none. The pieces of the predicate are tokens of the second type,
which BERT has for a second sentence. Source: Shi & Lin 2019, which appends the predicate as a second sentence instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfguide.tasks import minilm
from tfguide.tasks.examples import Examples
from tfguide.tasks.roles import TAGS, Sentence
from tfguide.training.batches import NO_LABEL


def examples(sentences: Sequence[Sentence]) -> Examples:
    """The sentences as tokens of MiniLM, with the number in TAGS of each word's tag at its first piece."""
    encodings = minilm.tokenizer().encode_batch([list(one.words) for one in sentences], is_pretokenized=True)
    rows, labels, types = [], [], []
    for one, encoding in zip(sentences, encodings, strict=True):
        words = encoding.word_ids
        first = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        numbers = [TAGS.index(one.tags[w]) if new else NO_LABEL for w, new in zip(words, first, strict=True)]
        rows.append(encoding.ids)
        labels.append(numbers)
        types.append([int(word == one.predicate) for word in words])
    return Examples(rows, labels, types)


def tags(given: Examples, logits: Sequence[np.ndarray]) -> list[list[str]]:
    """The most likely tag of each word, from the logits (T, N) of the tokens of each sentence.

    An I- tag that continues no span of its role begins one, so that the tags are those of whole spans.
    """
    found = []
    for labels, scores in zip(given.labels, logits, strict=True):
        best = [TAGS[i] for i, label in zip(scores.argmax(axis=-1), labels, strict=True) if label != NO_LABEL]
        found.append(whole_spans(best))
    return found


def whole_spans(row: Sequence[str]) -> list[str]:
    """Tags in which every span begins with B-.

    >>> whole_spans(["I-A0", "I-A0", "I-A1", "O"])
    ['B-A0', 'I-A0', 'B-A1', 'O']
    """
    result: list[str] = []
    for tag in row:
        goes_on = bool(result) and result[-1][2:] == tag[2:]
        result.append(f"B-{tag[2:]}" if tag.startswith("I-") and not goes_on else tag)
    return result
