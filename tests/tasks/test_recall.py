"""Recall at a distance: every label follows from the text, every answer stands at its distance, and seeds decide."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, random_weights
from tfguide.tasks import recall


def kinds(tokens):
    """0: keys, 1: values, 2: noise."""
    return (tokens >= recall.N_KEYS).astype(int) + (tokens >= recall.N_KEYS + recall.N_VALUES)


@pytest.mark.parametrize("lesson", recall.LESSONS)
def test_a_label_is_the_value_that_stood_behind_the_key_before(lesson):
    batch = recall.texts(np.random.default_rng(0), 13, lesson.length, lesson.n_facts, lesson.times)
    tokens = batch.inputs["tokens"]
    assert tokens.shape == batch.labels.shape == (13, lesson.length)
    for row, labels in zip(tokens, batch.labels, strict=True):
        known = {}
        for at, token in enumerate(row):
            if kinds(token) != 0:
                assert labels[at] == recall.NO_LABEL
                continue
            assert labels[at] == known.get(token, recall.NO_LABEL)
            known[token] = row[at + 1]
            assert kinds(row[at + 1]) == 1
        assert len(known) == lesson.n_facts and (labels >= 0).sum() == lesson.n_facts * (lesson.times - 1)
        assert (kinds(row) == 2).sum() == lesson.length - 2 * lesson.n_facts * lesson.times


@pytest.mark.parametrize(("length", "distance"), [(10, 2), (10, 9), (11, 6), (29, 17), (300, 299)])
def test_the_asked_fact_stands_at_its_distance_and_nowhere_else(length, distance):
    tokens, answers = recall.questions(np.random.default_rng(1), 23, length, distance)
    at = length - 1 - distance
    assert tokens.shape == (23, length) and (tokens[:, at] == tokens[:, -1]).all()
    assert (tokens[:, at + 1] == answers).all() and (kinds(answers) == 1).all()
    assert ((tokens == tokens[:, -1:]).sum(axis=1) == 2).all()
    assert ((kinds(tokens[:, :-1]) == 0).sum(axis=1) == recall.N_FACTS).all()  # no fact is torn or covered
    assert ((kinds(tokens) == 1).sum(axis=1) == recall.N_FACTS).all()


def test_one_fact_alone():
    tokens, answers = recall.questions(np.random.default_rng(1), 7, 5, 3, n_facts=1)
    assert (tokens[:, 2] == answers).all() and ((kinds(tokens) == 2).sum(axis=1) == 2).all()


def test_steps_are_known_by_their_number():
    first, again, other = recall.batch_at(5), recall.batch_at(5), recall.batch_at(5, seed=1)
    assert (first.inputs["tokens"] == again.inputs["tokens"]).all() and (first.labels == again.labels).all()
    assert (first.inputs["tokens"] != other.inputs["tokens"]).any()
    starts = [0, *(lesson.until for lesson in recall.LESSONS[:-1])]
    lengths = [recall.batch_at(step).labels.shape[1] for step in starts]
    assert lengths == [lesson.length for lesson in recall.LESSONS]
    with pytest.raises(ValueError, match=f"have {recall.LESSONS[-1].until} steps"):
        recall.batch_at(recall.LESSONS[-1].until)


def test_what_does_not_fit():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="4 facts need 24 tokens, got 23"):
        recall.texts(rng, 2, 23, 4, 3)
    with pytest.raises(ValueError, match="at most the 8 keys, got 9"):
        recall.texts(rng, 2, 99, 9, 2)
    with pytest.raises(ValueError, match="distance 20 does not lie within 20 tokens"):
        recall.questions(rng, 2, 20, 20)
    with pytest.raises(ValueError, match="positions must be one of"):
        recall.model_config("learned")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_trained_models_answer(name):
    model = load(name).from_weights(*recall.load("alibi"))
    assert recall.score(model, 40, 30, rows=64) > 0.85
    config = recall.model_config("alibi")
    assert recall.score(load(name).from_weights(config, random_weights(config)), 40, 30, rows=64) < 0.4


def test_weights_are_kept_in_float16(tmp_path):
    weights = random_weights(recall.model_config("none"))
    recall.save(tmp_path / "new", "none", weights)
    config, read = recall.load("none", tmp_path / "new")
    assert config.positions == "none" and set(read) == set(weights)
    for name, array in read.items():
        assert array.dtype == np.float32 and np.array_equal(array, weights[name].astype(np.float16))
