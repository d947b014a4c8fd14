"""Which continuation belongs to a text: the questions, and models whose accuracy is known."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, small_config
from tfguide.tasks import continuations, documentation
from tfguide.tasks.continuations import Question, accuracy, log_likelihoods, questions, standard_error

pytest.importorskip("tokenizers")


class Bytes:
    """A tokenizer of 37 tokens: the bytes of a text, divided."""

    def encode(self, text):
        return type("Encoding", (), {"ids": [byte % 37 for byte in text.encode()]})


def test_the_questions_are_pieces_of_the_held_out_text_and_always_the_same():
    asked, text = questions(128), " ".join(documentation.held_out().split())
    assert asked == questions(128) and asked != questions(128, seed=1)
    assert len({one.text for one in asked}) == 128 and len({one.topic for one in asked}) > 10
    for one in asked:
        assert len(one.text.split()) == continuations.READ and len(set(one.choices)) == continuations.CHOICES
        assert one.text + one.choices[one.answer] in text
        for i, choice in enumerate(one.choices):
            assert choice[0] == " " and len(choice.split()) == continuations.ANSWER and choice.strip() in text
            assert (one.text + choice in text) == (i == one.answer)
    answers = np.bincount([one.answer for one in asked], minlength=4)
    assert answers.min() > 16  # no place is the right one more often than by chance
    with refuses(ValueError, "at most, got n=100000"):
        questions(100000)
    with refuses(ValueError, "at most, got n=1"):
        questions(1, documents=["too short"])
    with refuses(ValueError, "at least 3 pieces of other documents, got 0"):
        questions(1, documents=[text])


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_likelihoods_are_those_of_the_whole_text_at_once(name):
    config = small_config(positions="rotary", max_positions=400)
    model = load(name).from_weights(config, random_weights(config))
    one = questions(4)[2]
    found = log_likelihoods(model, Bytes(), one)
    for choice, got in zip(one.choices, found, strict=True):
        tokens = np.array(Bytes().encode(one.text + choice).ids)
        logits = numpy(model(tokens[None]))[0].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        first = len(one.text.encode())
        want = sum(logs[at - 1, tokens[at]] for at in range(first, len(tokens))) / len(choice.encode())
        assert got == pytest.approx(want, rel=1e-4)


def test_the_share_of_right_answers():
    config = small_config(positions="rotary", max_positions=400)
    model = load("torch").from_weights(config, random_weights(config))
    best = [int(np.argmax(log_likelihoods(model, Bytes(), one))) for one in questions(6)]
    turned = [Question(one.text, one.choices, (at + (k % 3 == 0)) % 4, 0)
              for k, (one, at) in enumerate(zip(questions(6), best, strict=True))]  # fmt: skip
    assert accuracy(model, Bytes(), turned) == pytest.approx(4 / 6)
    assert standard_error(0.5, 100) == 0.05
