"""Exercises of section 5.1: longest match, and merges of pairs."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from tfguide.exercises.entry import Exercise, Mistake

_PIECES = ["e", "embed", "##m", "##bed", "##ding", "##dings", "dings", "##s", "token", "##ize", "##r"]
_BY_HALVES = [0, 1, 0, 1, 2, 0, 1, 2, 2, 0, 1]


def wordpiece(word, vocabulary, unknown, longest_first=True, mark="##"):
    """A word as the longest pieces of a vocabulary, from left to right; pieces inside a word begin with a mark.

    A word that cannot be cut whole is the one token `unknown`. longest_first, mark: of the usual mistakes.
    """
    pieces, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1) if longest_first else range(start + 1, len(word) + 1)
        found = ((mark if start else "") + word[start:end] for end in ends)
        piece = next((piece for piece in found if piece in vocabulary), None)
        if piece is None:
            return [unknown]
        pieces.append(piece)
        start += len(piece) - (len(mark) if start else 0)
    return pieces


def merge(tokens, pair, new_token):
    """Every occurrence of a pair of neighbours replaced by one token, from left to right."""
    result, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == tuple(pair):
            result.append(new_token)
            i += 2
        else:
            result.append(tokens[i])
            i += 1
    return result


def most_frequent_pair(tokens):
    """The pair of neighbours that occurs most often; of equals the one that comes first."""
    counts = Counter(pairwise(tokens))
    return max(counts, key=counts.get)  # the first of equals, since a Counter keeps the order


def _kept_before_unknown(word, vocabulary, unknown):
    for end in range(len(word), 0, -1):
        pieces = wordpiece(word[:end], vocabulary, unknown)
        if pieces != [unknown]:
            return pieces if end == len(word) else [*pieces, unknown]
    return [unknown]


def _overlapping(tokens, pair, new_token):
    result = []
    for i, token in enumerate(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            result.append(new_token)
        elif i == 0 or tuple(tokens[i - 1 : i + 1]) != pair:
            result.append(token)
    return result


def _first_only(tokens, pair, new_token):
    places = [i for i in range(len(tokens) - 1) if tuple(tokens[i : i + 2]) == pair]
    return [*tokens[: places[0]], new_token, *tokens[places[0] + 2 :]] if places else list(tokens)


EXERCISES = (
    Exercise(
        id="bpe-merge",
        page="05a",
        grade=1,
        title="Merge a pair",
        signature="merge(tokens, pair, new_token)",
        statement="Return the list of token ids in which every occurrence of the two neighbours `pair` is replaced by "
        "`new_token`, from left to right. A token that was merged is used up. The list that was given stays as it is.",
        hints=(
            "What shall become of (7, 7) in 7 7 7?",
            "Walk with an index that advances by 2 behind a merge and by 1 otherwise.",
            "while i < len(tokens): compare tokens[i : i + 2] with list(pair).",
        ),
        inputs=lambda rng: [
            ([7, 7, 7, 3, 7, 7], (7, 7), 11),
            (_BY_HALVES, (0, 1), 3),
            ([5], (5, 5), 7),
            ([2, 3, 2], (3, 5), 7),
        ],
        oracle=merge,
        mistakes=(
            Mistake("Merges overlap: the middle one of 7 7 7 was used up by the first merge.", _overlapping),
            Mistake("Only the first occurrence is replaced.", _first_only),
            Mistake("Nothing is replaced.", lambda tokens, pair, new_token: list(tokens)),
        ),
        tensors=False,
    ),
    Exercise(
        id="wordpiece",
        page="05a",
        grade=2,
        title="Longest match first",
        signature="wordpiece(word, vocabulary, unknown)",
        statement="Return the list of pieces of a word, as BERT's tokeniser cuts it: the longest piece of the "
        "vocabulary that the word begins with, then the longest one that the rest begins with, and so on. A piece "
        "that is not the first is looked up, and returned, with ## in front. A word that cannot be cut to its end is "
        "the one token `unknown`.",
        hints=(
            "Two loops: one over the start of the next piece, one over its end, from the end of the word backwards.",
            "The candidate is word[start:end], with ## in front of it unless start is 0.",
            "Where no end gives a piece of the vocabulary, return [unknown] at once, and forget what was found.",
        ),
        inputs=lambda rng: [
            ("embeddings", _PIECES, "[UNK]"),
            ("embedx", _PIECES, "[UNK]"),
            ("tokenizers", _PIECES, "[UNK]"),
            ("xs", _PIECES, "[UNK]"),
        ],
        oracle=wordpiece,
        mistakes=(
            Mistake(
                "This takes the shortest piece first: the longest one comes first.",
                lambda *arguments: wordpiece(*arguments, longest_first=False),
            ),
            Mistake(
                "Pieces inside a word are looked up without ##.", lambda *arguments: wordpiece(*arguments, mark="")
            ),
            Mistake(
                "The pieces before the unknown part are kept: the whole word becomes one unknown token.",
                _kept_before_unknown,
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="bpe-pair",
        page="05a",
        grade=3,
        title="Which pair is merged next?",
        signature="most_frequent_pair(tokens)",
        statement="Return the pair of neighbouring token ids that occurs most often in a list, as a tuple. Of pairs "
        "that occur equally often, return the one that comes first in the list.",
        hints=(
            "Count the pairs (tokens[i], tokens[i + 1]).",
            "A dictionary keeps the order in which its keys came.",
            "max over the counts takes the first of equals: max(counts, key=counts.get).",
        ),
        inputs=lambda rng: [(_BY_HALVES,), ([3, 5, 11, 3, 5, 11, 11, 2, 11, 2],), ([3, 2, 7, 2, 7, 3, 2],)],
        oracle=most_frequent_pair,
        mistakes=(
            Mistake(
                "These are the two most frequent tokens: they need not stand side by side.",
                lambda tokens: tuple(token for token, _ in Counter(tokens).most_common(2)),
            ),
            Mistake(
                "Of pairs that occur equally often this is the last one.",
                lambda tokens: most_frequent_pair(tokens[::-1])[::-1],
            ),
            Mistake(
                "The pair is turned round: the left neighbour comes first.",
                lambda tokens: most_frequent_pair(tokens)[::-1],
            ),
        ),
        tensors=False,
    ),
)
