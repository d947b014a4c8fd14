"""Search in passages: words without endings, BM25 by its formula, fused orders, and vectors that are kept."""

import math
import os

import numpy as np
import pytest

from tests.support import refuses
from tfguide import facts
from tfguide.tasks import minilm, retrieval
from tfguide.tasks.questions import Passage
from tfguide.tasks.retrieval import Bm25, Index, embed, kept_vectors, reciprocal_rank_fusion, terms

TEXTS = ["a loop leaves by break", "break break break", "sort the list", "lists are sorted, and so on and on"]


def test_terms_are_words_without_their_endings():
    assert terms("How do I sort __slots__ of lists, quickly?") == ["sort", "__slots__", "list", "quick"]
    assert terms("is it") == []


def test_bm25_is_its_formula():
    k1, b = 1.5, 0.5
    counts = [terms(text) for text in TEXTS]
    mean = np.mean([len(one) for one in counts])
    wanted = []
    for own in counts:
        total = 0.0
        for word in ("break", "list"):
            n = sum(word in one for one in counts)
            f = own.count(word)
            total += math.log(1 + (4 - n + 0.5) / (n + 0.5)) * f * (k1 + 1) / (f + k1 * (1 - b + b * len(own) / mean))
        wanted.append(total)
    found = Bm25(TEXTS, k1, b)
    np.testing.assert_allclose(found.scores("lists that break"), wanted)
    shares = found.shares("lists that break")
    assert (shares <= 1).all() and np.argmax(shares) == np.argmax(wanted)
    # A word that no text has counts in the most that could be reached, and nothing else.
    assert (found.shares("break violin") < found.shares("break"))[:2].all()
    assert found.shares("violin").tolist() == [0, 0, 0, 0] == found.shares("is it").tolist()


def test_fused_orders_take_places_and_not_scores():
    fused = reciprocal_rank_fusion([np.array([3.0, 2, 1]), np.array([0.0, 900, 1])], k=1)
    np.testing.assert_allclose(fused, [1 / 2 + 1 / 4, 1 / 3 + 1 / 2, 1 / 4 + 1 / 3])


def test_an_index_adds_words_to_vectors():
    vectors = np.array([[1.0, 0], [0, 1], [0.6, 0.8]])
    among = [Passage("a", "loops"), Passage("b", "sort"), Passage("c", "break")]
    alike = np.array([0.0, 1])
    assert [one.passage.source for one in Index(among, vectors, 0.0).search("loops", alike, 3)] == ["b", "c", "a"]
    by_words = Index(among, vectors, 3.0)
    best = by_words.search("loops", alike, 1)[0]
    assert best.passage.source == "a" and best.near == 0 and best.score == by_words.scores("loops", alike).max()
    with refuses(ValueError, "expected a vector for each passage, got 2 for 3"):
        Index(among, vectors[:2])


def test_texts_of_like_length_are_computed_together(monkeypatch):
    rows = [[9, 9, 9], [1], [2, 2], [3, 3, 3, 3]]
    tokens, valid = np.zeros((4, 4), np.int64), np.zeros((4, 4), bool)
    for i, row in enumerate(rows):
        tokens[i, : len(row)], valid[i, : len(row)] = row, True
    monkeypatch.setattr(minilm, "batch", lambda texts: (tokens, valid))
    shapes, done = [], []

    def encode(tokens, valid):
        shapes.append(tokens.shape)
        return np.stack([tokens.max(axis=1), valid.sum(axis=1)], axis=1)

    found = embed(encode, ["a", "b", "c", "d"], size=2, tell=done.append)
    assert found.dtype == np.float32 and found.tolist() == [[9, 3], [1, 1], [2, 2], [3, 4]]
    assert shapes == [(2, 2), (2, 4)] and done == [2, 4]


def test_vectors_are_kept_until_a_text_or_the_model_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("TFGUIDE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(facts, "RECENT", 0.0)
    model = tmp_path / "model"
    model.write_bytes(b"weights")
    computed = []

    def compute():
        computed.append(1)
        return np.full((2, 3), len(computed) / 3, np.float32)

    first = kept_vectors(model, ["a", "b"], compute)
    np.testing.assert_array_equal(kept_vectors(model, ["a", "b"], compute), first)
    assert len(computed) == 1
    kept_vectors(model, ["a", "c"], compute)
    os.utime(model, (1, 1))
    kept_vectors(model, ["a", "b"], compute)
    assert len(computed) == 3


def test_stop_words_do_not_hide_the_words_of_python():
    assert not {"else", "while", "yield", "lambda", "except", "class"} & retrieval.STOP_WORDS


@pytest.mark.parametrize("text", ["", "   "])
def test_a_text_without_words_has_no_score(text):
    assert Bm25(["loops", text]).scores("loops")[1] == 0
