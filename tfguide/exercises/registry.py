"""The exercises in the order of the book, one module for each chapter or part of one."""

from __future__ import annotations

from tfguide.checks.values import nearest
from tfguide.exercises import algorithms, background, concepts
from tfguide.exercises.entry import Exercise

EXERCISES: tuple[Exercise, ...] = (
    *background.EXERCISES,
    *concepts.EXERCISES,
    *algorithms.EXERCISES,
)


def find(id: str) -> Exercise:
    """The exercise with this id. Raises ValueError for another one, with the nearest ids.

    >>> find("causal-mask").title
    'The causal mask'
    """
    for exercise in EXERCISES:
        if exercise.id == id:
            return exercise
    ids = [exercise.id for exercise in EXERCISES]
    raise ValueError(f"there is no exercise {id!r}{nearest(id, ids)}: `tfguide exercise status` lists all")
