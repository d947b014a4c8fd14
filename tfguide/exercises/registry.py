"""The exercises in the order of the book: a module holds those of a page, or of a few pages that follow each other."""

from __future__ import annotations

from tfguide.checks.values import nearest
from tfguide.exercises import (
    algorithms,
    background,
    building,
    caching,
    compiling,
    concepts,
    costs,
    decoding,
    devices,
    grouping,
    mathematics,
    norms,
    positions,
    precision,
    pruning,
    quantising,
    serving,
    speculation,
    tiles,
    together,
    tokens,
    training,
)
from tfguide.exercises.entry import Exercise

EXERCISES: tuple[Exercise, ...] = (
    *background.EXERCISES,
    *concepts.EXERCISES,
    *algorithms.EXERCISES,
    *mathematics.EXERCISES,
    *norms.EXERCISES,
    *positions.EXERCISES,
    *tokens.EXERCISES,
    *building.EXERCISES,
    *training.EXERCISES,
    *costs.EXERCISES,
    *caching.EXERCISES,
    *grouping.EXERCISES,
    *tiles.EXERCISES,
    *precision.EXERCISES,
    *quantising.EXERCISES,
    *pruning.EXERCISES,
    *decoding.EXERCISES,
    *speculation.EXERCISES,
    *compiling.EXERCISES,
    *serving.EXERCISES,
    *devices.EXERCISES,
    *together.EXERCISES,
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
