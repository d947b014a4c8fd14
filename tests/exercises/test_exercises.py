"""Every starter fails, every solution passes, and every mistake fails with its own sentence, in every framework."""

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tfguide.exercises import EXERCISES, find
from tfguide.exercises.arrays import to_array, to_framework
from tfguide.exercises.checking import check_function, describe_solution
from tfguide.exercises.entry import FRAMEWORKS
from tfguide.exercises.starters import starter_text

ROOT = Path(__file__).resolve().parents[2]
IN_FRAMEWORKS = [(exercise, framework) for exercise in EXERCISES for framework in exercise.frameworks]


@pytest.fixture(params=IN_FRAMEWORKS, ids=lambda pair: f"{pair[0].id}-{pair[1]}")
def one(request):
    exercise, framework = request.param
    if framework != "numpy" and find_spec(framework) is None:
        pytest.skip(f"needs {framework}")
    return exercise, framework


def in_framework(function, framework):
    """A function of NumPy as one of a framework's tensors."""

    def wrapped(*arguments):
        arrays = arguments if framework == "numpy" else [as_numpy(argument) for argument in arguments]
        with np.errstate(all="ignore"):
            return converted(function(*arrays), framework)

    return wrapped


def converted(result, framework):
    if isinstance(result, tuple):
        return tuple(converted(part, framework) for part in result)
    return to_framework(result, framework)


def as_numpy(value):
    """An argument as the oracle takes it: float64, where a framework has float32."""
    if isinstance(value, tuple):
        return tuple(as_numpy(part) for part in value)
    if isinstance(value, (int, float, str, list)):
        return value
    array, _ = to_array(value)
    return array.astype(np.float64) if array.dtype == np.float32 else array


def test_a_starter_fails_and_says_so(one):
    exercise, framework = one
    names = {}
    exec(compile(starter_text(exercise, framework), "starter.py", "exec"), names)
    assert list(inspect.signature(names[exercise.name]).parameters) == parameters(exercise)
    outcome = check_function(exercise, names[exercise.name], framework)
    assert not outcome.passed and f"It is not written yet: write {exercise.name} here." in outcome.text


def test_the_solution_of_the_package_passes(one):
    exercise, framework = one
    solution = exercise.solved_by(framework)
    solution = in_framework(solution, framework) if solution is exercise.oracle else solution
    outcome = check_function(exercise, solution, framework)
    assert outcome.passed, outcome.text
    assert describe_solution(exercise, framework) in outcome.text
    if exercise.tensors and exercise.solution:
        assert re.search(rf"own, tfguide/({framework}|reference|generation|exercises)/", outcome.text)


def test_every_mistake_fails_with_its_sentence(one):
    exercise, framework = one
    assert len(exercise.mistakes) >= 2
    for mistake in exercise.mistakes:
        outcome = check_function(exercise, in_framework(mistake.compute, framework), framework)
        assert not outcome.passed, mistake.sentence
        assert outcome.text.splitlines()[-1] == mistake.sentence, outcome.text


def test_the_oracle_passes(one):
    """What a reader writes in NumPy's terms is right in every framework: the tolerances fit the types."""
    exercise, framework = one
    outcome = check_function(exercise, in_framework(exercise.oracle, framework), framework)
    assert outcome.passed, outcome.text


def parameters(exercise):
    (function,) = ast.parse(f"def {exercise.signature}: ...").body
    return [argument.arg for argument in function.args.args]


def test_the_entries_are_whole():
    assert len({exercise.id for exercise in EXERCISES}) == len(EXERCISES)
    assert [e.page for e in EXERCISES] == sorted(e.page for e in EXERCISES), "not in the order of the book"
    for exercise in EXERCISES:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", exercise.id) and len(exercise.id) <= 20
        assert exercise.grade in (1, 2, 3) and len(exercise.hints) == 3
        sentences = [mistake.sentence for mistake in exercise.mistakes]
        assert len(set(sentences)) == len(sentences) and all(sentence.endswith(".") for sentence in sentences)
        assert len(exercise.cases()) >= 2
        assert set(exercise.tools or FRAMEWORKS) == set(FRAMEWORKS)
        for arguments in exercise.cases():
            assert len(arguments) == len(parameters(exercise))
            for value in arguments:
                if isinstance(value, np.ndarray) and value.dtype == np.float64 and exercise.tensors:
                    assert (value.astype(np.float32) == value).all(), "float32 does not hold it"


@pytest.mark.parametrize("chapter", sorted({e.chapter for e in EXERCISES}))
def test_each_chapter_has_all_grades(chapter):
    assert {e.grade for e in EXERCISES if e.chapter == chapter} == {1, 2, 3}


def test_an_unknown_one_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="no exercise 'causal-maks'; did you mean 'causal-mask'"):
        find("causal-maks")
