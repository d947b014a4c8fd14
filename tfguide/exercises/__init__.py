"""Exercises that check themselves: starters, hints, checks against the NumPy reference, and known mistakes.

In a notebook:

    from tfguide.exercises import check
    check("causal-mask", my_function)

In a shell `tfguide exercise` does the same for a file. None of these modules imports a framework until one is named.
"""

from tfguide.exercises.desk import check
from tfguide.exercises.entry import Exercise, Mistake
from tfguide.exercises.registry import EXERCISES, find

__all__ = ["EXERCISES", "Exercise", "Mistake", "check", "find"]
