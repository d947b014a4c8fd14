"""The recipe and the order of the data: what both frameworks share."""

import numpy as np
import pytest

from tests.support import refuses
from tfguide.training import Recipe, batch_of, count_batches


def small(**changes):
    return Recipe(**{**dict(steps=20, warmup=3, rows=3, length=7, measure_every=5), **changes})


def test_the_rate_rises_in_a_line_and_falls_to_the_floor():
    recipe = small(learning_rate=0.5, floor=0.2)
    rates = np.array([recipe.rate_of(step) for step in range(recipe.steps)])
    np.testing.assert_allclose(np.diff(rates[:3]), 0.5 / 3)
    assert rates.max() == rates[2] == rates[3] == 0.5
    assert (np.diff(rates[3:]) < 0).all() and rates[-1] == pytest.approx(0.1)
    middle = (3 + 19) / 2  # half a cosine: halfway, the mean of both ends
    assert recipe.rate_of(middle) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(warmup=20), "warmup must be below steps=20, got 20"),
        (dict(beta2=1.0), "beta2 must be at least 0 and below 1, got 1.0"),
        (dict(rows=0), "rows must be at least 1, got 0"),
        (dict(clip=0.0), "clip must be above 0, got 0.0"),
    ],
)
def test_bad_recipes_are_refused(change, message):
    with refuses(ValueError, message):
        small(**change)


def test_a_pass_takes_every_window_once_and_the_next_one_cuts_elsewhere():
    tokens, recipe = np.arange(3 * 7 * 5 + 8), small()
    n = count_batches(len(tokens), recipe)
    assert n == 5 and batch_of(tokens, 0, recipe).shape == (3, 8)
    passes = [np.concatenate([batch_of(tokens, step, recipe) for step in range(n * i, n * i + n)]) for i in range(2)]
    for rows in passes:
        assert (np.diff(rows, axis=1) == 1).all()  # windows of the text
        assert len(np.unique(rows[:, 1:])) == rows[:, 1:].size  # none is predicted twice
    assert set(passes[0][:, 0]) != set(passes[1][:, 0])


def test_a_batch_depends_on_its_step_and_the_seed_alone():
    tokens = np.arange(500)
    late, again = batch_of(tokens, 90, small()), batch_of(tokens, 90, small())
    np.testing.assert_array_equal(late, again)
    assert (late != batch_of(tokens, 90, small(seed=1))).any()


def test_a_text_that_is_too_short_is_refused():
    with refuses(ValueError, "a text must have at least 29 tokens for a batch of 3 rows of 7 tokens, got 28"):
        batch_of(np.arange(28), 0, small())
    assert count_batches(29, small()) == 1
