"""Planted facts: the text has the length that was asked for, and each fact stands once, at its depth."""

import pytest

from tfguide.tasks import needle
from tfguide.tasks.documentation import tokenizer


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers")
    return tokenizer()


@pytest.mark.parametrize(("length", "order"), [(211, 0), (500, 3), (503, 8)])
def test_facts_stand_at_even_distances(bpe, length, order):
    planted = needle.plant(bpe, length, order)
    assert len(planted.tokens) == length and planted.depths == (0.0, 0.25, 0.5, 0.75, 1.0)
    first = needle.FACTS[order % 5]
    assert planted.answers[0] == first[1] and sorted(planted.answers) == sorted(end for _, end in needle.FACTS)
    text = bpe.decode(planted.tokens)
    for answer, question, distance in zip(planted.answers, planted.questions, planted.distances, strict=True):
        begin = bpe.decode(question).strip()
        assert text.count(begin) == 1 and f"{begin} {answer}." in text
        assert bpe.decode(planted.tokens[length - distance :]).strip().startswith(f"{begin} {answer}.")
    assert planted.distances[0] == length
    gaps = [a - b for a, b in zip(planted.distances, planted.distances[1:], strict=False)]
    assert max(gaps) - min(gaps) < 10 and text.rstrip().endswith(f"{planted.answers[-1]}.")


def test_all_orders_put_each_fact_at_each_depth(bpe):
    found = {needle.plant(bpe, 300, order).answers for order in range(5)}
    assert all(len({answers[depth] for answers in found}) == 5 for depth in range(5))


def test_what_does_not_fit(bpe):
    with pytest.raises(ValueError, match="expected room for 5 to"):
        needle.plant(bpe, 40)
    with pytest.raises(ValueError, match="expected room for 5 to 2 tokens"):
        needle.plant(bpe, 400, text="a b")


def test_an_answer_is_the_word_itself():
    assert needle.is_found(" 73.\n", "73") and needle.is_found("papaya", "papaya")
    assert not needle.is_found(" the papaya", "papaya") and not needle.is_found("", "73")
