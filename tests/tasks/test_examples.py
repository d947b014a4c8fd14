"""Rows of tokens with labels: batches, their order, and the answers of a model."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, small_config
from tfguide import LabelHead
from tfguide.tasks.examples import Examples, batch_at, logits
from tfguide.training import NO_LABEL, Recipe

ROWS = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10, 11], [12, 13]]
TEXTS = Examples(ROWS, [0, 1, 2, 3, 4])
TOKENS = Examples(ROWS, [[i % 5 for i in row] for row in ROWS], [[i % 2 for i in row] for row in ROWS])


def test_a_batch_is_padded_on_the_right():
    batch = TEXTS.batch([0, 1])
    assert batch.inputs["tokens"].tolist() == [[1, 2, 3], [4, 0, 0]] and batch.labels.tolist() == [0, 1]
    assert batch.inputs["valid"].tolist() == [[True] * 3, [True, False, False]] and "token_types" not in batch.inputs
    batch = TOKENS.batch([1, 2])
    assert batch.labels.tolist() == [[4, NO_LABEL], [0, 1]] and batch.inputs["token_types"].tolist() == [[0, 0], [1, 0]]


def test_some_of_the_rows():
    some = TOKENS.choose([2, 0])
    assert some.rows == [[5, 6], [1, 2, 3]] and some.labels == [[0, 1], [1, 2, 3]] and some.types == [[1, 0], [1, 0, 1]]
    assert TEXTS.choose([3]) == Examples([[7, 8, 9, 10, 11]], [3])


def test_every_pass_takes_each_row_once_and_in_another_order():
    many = Examples([[i] * (i % 9 + 1) for i in range(60)], list(range(60)))
    at = batch_at(many, Recipe(steps=30, rows=6, warmup=1))
    passes = [[i for step in range(start, start + 10) for i in at(step).labels.tolist()] for start in (0, 10)]
    assert all(sorted(one) == list(range(60)) for one in passes) and passes[0] != passes[1]
    assert at(3).labels.tolist() == passes[0][18:24]  # the number of a step is all that decides
    padding = [1 - at(step).inputs["valid"].mean() for step in range(10)]
    assert np.mean(padding) < 0.15  # lengths are 1 to 9: without sorting a third would be padding


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_answers_are_those_of_each_row_alone(name):
    for given, per, dtype in ((TEXTS, "text", "float32"), (TOKENS, "token", "float32"), (TEXTS, "text", "bfloat16")):
        config = small_config(
            "encoder", labels=LabelHead(n_labels=5, per=per), decoder_start_token_id=None, n_token_types=2
        )
        model = load(name).from_weights(config, random_weights(config), dtype)
        found = logits(model, given, size=2)
        assert [one.shape for one in found] == [(5,) if per == "text" else (len(row), 5) for row in ROWS]
        for i, row in enumerate(ROWS):
            types = None if given.types is None else np.array([given.types[i]])
            hidden = model(np.array([row]), None, types)
            alone = logits(model, Examples([row], [0], None if types is None else types.tolist()))[0]
            np.testing.assert_allclose(found[i], alone, atol=1e-5 if dtype == "float32" else 0.1)
            if dtype == "float32":
                np.testing.assert_allclose(found[i], numpy(model.classify(hidden))[0], atol=1e-5)


def test_bad_input():
    with refuses(ValueError, "expected labels for 2 rows, got 1"):
        Examples([[1], [2]], [0])
    with refuses(ValueError, "expected types for 1 rows, got 2"):
        Examples([[1]], [0], [[0], [0]])
    with refuses(ValueError, "expected at least one row"):
        Examples([], [])
    with refuses(ValueError, "expected at least 6 rows for a batch, got 5"):
        batch_at(TEXTS, Recipe(steps=3, rows=6, warmup=1))
