"""Questions and the passages that answer them: cut from the documentation, ranked, and scored."""

import json

import numpy as np
import pytest

from tests.support import refuses
from tfguide.tasks.questions import (
    Passage,
    Question,
    answers,
    mean_reciprocal_rank,
    passages,
    questions,
    recall_at,
)  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return passages()


def test_each_question_is_answered_by_few_passages(found):
    asked = questions()
    assert len(asked) >= 60 and len({one.text for one in asked}) == len(asked)
    for one in asked:
        assert one.text.endswith("?")
        assert 1 <= len(answers(one, found)) <= 3, one


def test_passages_are_short_and_nothing_is_lost():
    text = (
        "Heading\n*******\n\nOne two three.\n\nFour five. Six seven.\n\n"
        "Another\n=======\n\nAll of this is a long paragraph. It has three sentences. No more than that.\n"
    )
    assert passages({"a": text, "b": "short"}, words=7) == [
        Passage("a", "Heading\n\nOne two three.\n\nFour five. Six seven."),
        Passage("a", "Another\n\nAll of this is a long paragraph."),
        Passage("a", "Another\n\nIt has three sentences."),
        Passage("a", "Another\n\nNo more than that."),
        Passage("b", "short"),
    ]


def test_the_documentation_is_all_there(found):
    whole = {}
    for one in found:
        whole.setdefault(one.source, []).append(one.text)
    from tfguide.tasks import documentation

    for name, text in documentation.documents().items():
        if name.startswith("topics/"):
            kept = set(" ".join(whole[name]).split())
            lost = {word for word in text.split() if word not in kept and not set(word) <= set('*=-~^"')}
            assert not lost, (name, lost)


def test_a_quotation_may_be_broken_into_lines():
    some = [Passage("a", "to be\n   or not"), Passage("b", "to be")]
    assert answers(Question("?", ("be or not",)), some) == [0]
    assert answers(Question("?", ("no words", "to  be")), some) == [0, 1]


def test_the_scores_of_an_order():
    ranked = np.array([[0, 2, 1], [1, 2, 0]])
    right = [[2], [0, 1]]
    assert [recall_at(k, ranked, right) for k in (1, 2, 3)] == [0.5, 1, 1]
    assert mean_reciprocal_rank(ranked, right) == pytest.approx((1 / 2 + 1) / 2)
    with refuses(ValueError, "question 1 has no passage that answers it"):
        recall_at(1, ranked, [[0], []])
    with refuses(ValueError, "got 2 for 1"):
        mean_reciprocal_rank(ranked, [[0]])


def test_questions_of_your_own(tmp_path):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps([{"question": "Why?", "quotes": ["because"]}]))
    assert questions(file) == [Question("Why?", ("because",))]
    for text in ("[]", "{", '[{"question": "Why?"}]', '[{"question": "Why?", "quotes": []}]', "[3]",
                 '[{"question": "Why?", "quotes": [" "]}]'):  # fmt: skip
        file.write_text(text)
        with refuses(ValueError, 'expected a list of {"question": ..., "quotes": [...]}'):
            questions(file)
