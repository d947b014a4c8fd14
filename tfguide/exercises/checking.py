"""Run a reader's function on the cases of an exercise, and say what is wrong with it or what the package does."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.exercises.arrays import is_array, kind_of, to_array, to_framework
from tfguide.exercises.compare import TOLERANCES, difference
from tfguide.exercises.entry import TITLES, Exercise

_MOST_LINES = 70  # of a solution that is printed; of a longer one the first
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """Whether a function is right, and what there is to say."""

    passed: bool
    text: str


def check_function(exercise: Exercise, function: Callable[..., Any], framework: str) -> Outcome:
    """Compare a function with the oracle of an exercise, case by case, up to the first difference.

    framework: what its arguments are, one of `exercise.frameworks`. Whatever the function raises is part of what is
    said; only an interrupt of the keyboard ends the check. Raises ImportError where the framework is not installed.
    """
    cases = exercise.cases()
    for number, arguments in enumerate(cases, start=1):
        given = to_framework(arguments, framework)
        before = f"{exercise.id}: not yet. Case {number} of {len(cases)}:\n    {_call(exercise, arguments)}"
        try:
            result = function(*given)
        except (Exception, SystemExit) as error:
            return Outcome(False, f"{before}\n{explain(error, _file_of(function), framework)}")
        found = difference(_computed(exercise.oracle, arguments), result, least=_tolerance(framework))
        if found:
            others = [case for case in cases if case is not arguments]
            known = _recognise(exercise, framework, arguments, result, _results(function, others, framework))
            return Outcome(False, "\n".join(filter(None, [before, found, known or _unusable(result)])))
        changed = _changed(exercise, arguments, given)
        if changed:
            return Outcome(False, f"{before}\nThe result is right, but {changed} was changed in place: copy it first.")
    head = f"{exercise.id}: solved in {TITLES[framework]}, on {len(cases)} cases."
    return Outcome(True, f"{head}\n\n{describe_solution(exercise, framework)}")


def describe_solution(exercise: Exercise, framework: str) -> str:
    """The package's own solution: where it stands, and its source; then how it is called here. Raises ImportError."""
    shown = exercise.shown(framework)
    parts = [f"The package's own, {_listing(shown)}"]
    if exercise.solve is not None and shown is not exercise.oracle:
        named = exercise.solve.__name__ != "<lambda>"
        parts.append(f"With the parameters of the exercise, {_listing(exercise.solve if named else exercise.oracle)}")
    return "\n\n".join(parts)


def _listing(shown):
    """The file, the line and the source of a function or class."""
    lines, first = inspect.getsourcelines(inspect.unwrap(shown))
    file = Path(inspect.getsourcefile(inspect.unwrap(shown))).resolve().relative_to(_ROOT).as_posix()
    more = f"\n    ... and {len(lines) - _MOST_LINES} lines more" if len(lines) > _MOST_LINES else ""
    source = inspect.cleandoc("\n" + "".join(lines[:_MOST_LINES]))
    indented = "\n".join(f"    {line}".rstrip() for line in source.splitlines())
    return f"{file}, line {first}:\n\n{indented}{more}"


def explain(error: BaseException, file: str | None, framework: str | None = None) -> str:
    """What an exception of the reader's code says, with the last line of the reader's own file that led to it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        line = (error.text or "").strip()
        return f"The file cannot be read: {error.msg}, line {error.lineno}: {line}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"\nIt was at line {frames[-1].lineno}: {_line(frames[-1])}" if frames else ""
    if isinstance(error, NotImplementedError):
        return f"It is not written yet: {error or 'the function raises NotImplementedError'}.{where}"
    if isinstance(error, SystemExit):
        return f"It ends the program: sys.exit({'' if error.code is None else repr(error.code)}).{where}"
    hint = ""
    if framework is not None and isinstance(error, (TypeError, AttributeError)):
        hint = f"\nThe arguments are {kind_of(framework)}."
    return f"It raises {type(error).__name__}: {error}{where}{hint}"


def _line(frame):
    return (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()


def _file_of(function):
    code = inspect.unwrap(function).__code__ if inspect.isfunction(function) else None
    return code.co_filename if code else None


def _call(exercise, arguments):
    names = exercise.signature.split("(", 1)[1].rstrip(")").split(", ")
    return ", ".join(f"{name} {_summary(value)}" for name, value in zip(names, arguments, strict=True))


def _summary(value):
    if isinstance(value, np.ndarray):
        return f"of shape {value.shape}"
    text = repr(value)
    return f"= {text}" if len(text) <= 60 else f"of {len(value)} entries"


def _tolerance(framework):
    """A framework is given float32: a result is no better, whatever its type is."""
    return 0.0 if framework == "numpy" else TOLERANCES["float32"]


def _computed(function, arguments):
    with np.errstate(all="ignore"):
        return function(*arguments)


def _results(function, cases, framework):
    """Cases with what a function makes of them, where it makes something."""
    for arguments in cases:
        with contextlib.suppress(Exception, SystemExit):
            yield arguments, function(*to_framework(arguments, framework))


def _recognise(exercise, framework, arguments, result, others):
    """The sentence of the mistake that leads to this wrong result, of several the one that explains most of the others.

    None if no known mistake does.
    """

    def equal(one, other):
        return difference(one, other, least=_tolerance(framework)) is None

    right = _computed(exercise.oracle, arguments)
    wrong = [(mistake, _computed(mistake.compute, arguments)) for mistake in exercise.mistakes]
    likely = [mistake for mistake, output in wrong if equal(output, result) and not equal(right, output)]
    if len(likely) < 2:
        return likely[0].sentence if likely else None
    known = list(others)
    agreeing = [sum(equal(_computed(mistake.compute, case), got) for case, got in known) for mistake in likely]
    return likely[agreeing.index(max(agreeing))].sentence


def _unusable(result):
    """What is said of numbers that are NaN or infinite, where no mistake explains them."""
    parts = result if isinstance(result, tuple) else (result,)
    for array in (to_array(part)[0] for part in parts if is_array(part)):
        if array.dtype.kind == "f" and np.isnan(array).any():
            return "It holds NaN: 0 / 0, infinity minus infinity, or the logarithm or the root of a negative number."
        if array.dtype.kind == "f" and np.isinf(array).any():
            return "It holds infinity: something overflowed, or was divided by 0."
    return None


def _changed(exercise, arguments, given):
    """The name of an argument that the function has changed, or None."""
    names = exercise.signature.split("(", 1)[1].rstrip(")").split(", ")
    for name, own, theirs in zip(names, arguments, given, strict=True):
        if isinstance(own, (np.ndarray, list, tuple)) and difference(own, theirs) is not None:
            return f"`{name}`"
    return None
