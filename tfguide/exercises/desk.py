"""What a reader does with an exercise: start it, check it, take a hint, begin anew. Each changes the progress."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from tfguide.checks.values import check_choice
from tfguide.exercises.arrays import framework_of, kind_of
from tfguide.exercises.checking import Outcome, check_function
from tfguide.exercises.entry import FRAMEWORKS, TITLES, Exercise
from tfguide.exercises.progress import changing, read_progress
from tfguide.exercises.registry import find
from tfguide.exercises.report import hint_text, next_text
from tfguide.exercises.running import check_file
from tfguide.exercises.starters import describe, restore_starter, starter_name, write_starter


def check(id: str, function: Callable[..., Any], framework: str | None = None) -> bool:
    """Check a function that solves an exercise, print what there is to say, and return whether it is right.

    id: as on the pages of the book and in `tfguide exercise status`. framework: what the arguments of the function are,
    "numpy", "torch" or "tensorflow"; default: the one that the function's code names, else NumPy. A success is kept
    in the progress. What the function raises is printed.

    Raises ValueError for an unknown id or framework, and for a function that names two; TypeError for what cannot be
    called; ImportError where the framework is not installed.
    """
    exercise = find(id)
    if not callable(function):
        raise TypeError(f"check takes the function itself: expected something to call, got {function!r}")
    found = framework or framework_of(function)
    chosen = choose_framework(exercise, found or FRAMEWORKS[0])
    outcome = check_function(exercise, function, chosen)
    print(told(exercise, chosen, outcome))
    if not outcome.passed and found is None and exercise.tensors:
        print(f"(Its code names no framework, so it got {kind_of(chosen)}; `framework=` chooses others.)")
    return outcome.passed


def told(exercise: Exercise, framework: str, outcome: Outcome) -> str:
    """The text of an outcome; a success is kept, and followed by the next exercise."""
    if not outcome.passed:
        return outcome.text
    try:
        with changing(exercise.id) as entry:
            entry["solved"].setdefault(framework, date.today().isoformat())
        after = next_text(exercise, read_progress())
    except (OSError, ValueError) as error:  # the exercise is solved all the same
        after = f"This success could not be kept: {error}"
    return f"{outcome.text}\n\n{after}"


def choose_framework(exercise: Exercise, named: str | None) -> str:
    """What an exercise is done in: what is named, else what it was started in, else what is installed.

    Arithmetic has one starter, whatever is named. Raises ValueError for an unknown name.
    """
    if named is not None:
        check_choice("framework", named, FRAMEWORKS)
    if not exercise.tensors:
        return FRAMEWORKS[0]
    if named is not None:
        return named
    started = read_progress().get(exercise.id, {}).get("files", {})
    installed = [name for name in ("torch", "tensorflow") if importlib.util.find_spec(name) is not None]
    return next((name for name in (*list(started)[::-1], *installed) if name in FRAMEWORKS), FRAMEWORKS[0])


def file_of(exercise: Exercise, framework: str, named: str | None = None) -> Path:
    """The reader's file: what is named, else what was started, else the starter's name in the current folder."""
    if named is not None:
        return Path(named).absolute()
    started = read_progress().get(exercise.id, {}).get("files", {}).get(framework)
    return Path(started or starter_name(exercise, framework)).absolute()


def start(exercise: Exercise, framework: str, named: str | None = None) -> str:
    """Write the starter, and say what to do. Raises ValueError where the file exists, and OSError."""
    file = Path(named or starter_name(exercise, framework)).absolute()
    with changing(exercise.id) as entry:
        write_starter(exercise, framework, file)
        entry["files"] = {name: at for name, at in entry["files"].items() if name != framework}
        entry["files"][framework] = str(file)
    about = f"{exercise.title} ({describe(exercise)}{f', in {TITLES[framework]}' if exercise.tensors else ''})"
    return f"{about}\n\nWrite `{exercise.name}` in {file.name}, then\n    tfguide exercise check {exercise.id}"


def check_again(exercise: Exercise, framework: str, file: Path, seconds: float) -> tuple[bool, str]:
    """Check a file in a process of its own: whether it is right, and what to tell. Raises as `check_file`."""
    outcome = check_file(exercise, file, framework, seconds)
    return outcome.passed, told(exercise, framework, outcome)


def hint(exercise: Exercise) -> str:
    """One hint more than the last time. Raises as `read_progress`."""
    with changing(exercise.id) as entry:
        entry["hints"] = min(entry["hints"] + 1, len(exercise.hints) + 1)
        return hint_text(exercise, entry["hints"])


def reset(exercise: Exercise, framework: str, named: str | None = None) -> str:
    """Begin anew: the starter again, with a copy of what was written; no hints are shown and nothing is solved.

    Raises OSError, and as `read_progress`.
    """
    file = file_of(exercise, framework, named)
    with changing(exercise.id) as entry:
        backup = restore_starter(exercise, framework, file)
        entry["hints"] = 0
        entry["solved"].pop(framework, None)
        entry["files"][framework] = str(file)
    kept = "" if backup is None else f" What was in it is in {backup.name}."
    return f"{file.name} is as at the start.{kept}"
