"""What a reader sees of a run: one line that is written over, and one line for each measurement."""

from __future__ import annotations

from typing import TextIO

from tfguide.training.loop import Record
from tfguide.training.recipe import Recipe

_WIDTH = 30


def show(record: Record, recipe: Recipe, stream: TextIO) -> None:
    """Write a progress bar over the line before, where the stream is a terminal; else nothing.

    The bar is removed when a measurement follows it, so that this has a line of its own.
    """
    if not stream.isatty():
        return
    done = record.step + 1
    filled = _WIDTH * done // recipe.steps
    bar = f"\r[{'#' * filled}{'.' * (_WIDTH - filled)}] step {done} of {recipe.steps}, loss {record.loss:.3f}"
    print(bar if not record.measured else "\r" + " " * len(bar) + "\r", end="", file=stream, flush=True)


def summary(record: Record) -> str:
    """One line: the step, the loss, and the perplexity or the score where it was measured.

    >>> summary(Record(99, 4.25, 1.0, 0.002, 80.0))
    'step  100  loss 4.250  perplexity 80.0'
    >>> summary(Record(99, 0.25, 1.0, 0.002, score=0.9))
    'step  100  loss 0.250  score 0.900'
    """
    measured = "" if record.perplexity is None else f"  perplexity {record.perplexity:.1f}"
    if record.score is not None:
        measured += f"  score {record.score:.3f}"
    return f"step {record.step + 1:>4}  loss {record.loss:.3f}{measured}"
