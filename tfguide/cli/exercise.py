"""`tfguide exercise`: the exercises of the book, which check themselves."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from tfguide.checks.values import check_number
from tfguide.exercises import desk, find
from tfguide.exercises.checking import describe_solution
from tfguide.exercises.entry import FRAMEWORKS, Exercise
from tfguide.exercises.progress import read_progress
from tfguide.exercises.report import status_text

EXAMPLES = (
    ("an exercise of the book", "tfguide exercise start causal-mask --framework torch"),
    ("whether it is solved", "tfguide exercise check causal-mask --watch"),
)

_WAIT = 0.3  # seconds between two looks at a file


def add_commands(commands: Any) -> None:
    """Add `exercise` with its tasks to the subparsers of the command line."""
    about = "the exercises of the book, which check themselves"
    parser = commands.add_parser("exercise", help=about, description=f"Do {about}.")
    tasks = parser.add_subparsers(metavar="task", required=True)
    for name, run, about in (
        ("start", run_start, "write a file to solve an exercise in"),
        ("check", run_check, "check the file, and say what is wrong or what the package does"),
        ("hint", run_hint, "show one more hint of three"),
        ("solution", run_solution, "show the package's own solution"),
        ("reset", run_reset, "write the starter again, and keep a copy of the file"),
    ):
        task = tasks.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        task.set_defaults(run=run)
        task.add_argument("id", metavar="ID", help="see `tfguide exercise status`")
        if name != "hint":
            task.add_argument(
                "--framework", choices=FRAMEWORKS,
                help="default: the one that the exercise was started in last, else one that is installed; arithmetic "
                "has one starter for all",
            )  # fmt: skip
        if name in ("start", "check", "reset"):
            task.add_argument(
                "--file", metavar="FILE",
                help="default: where the exercise was started; at the start, its name in the current folder",
            )  # fmt: skip
        if name == "check":
            task.add_argument(
                "--watch", action="store_true", help="check again when the file changes, until it is right"
            )
            task.add_argument(
                "--seconds", type=float, default=20.0, metavar="N", help="how long your code may run; default: 20"
            )
    about = "list the exercises by chapter, with what is solved"
    status = tasks.add_parser("status", help=about, description=f"{about[0].upper()}{about[1:]}.")
    status.set_defaults(run=run_status)


def run_start(options: argparse.Namespace) -> int:
    """Write a starter; returns 0. Raises ValueError where the file exists."""
    exercise, framework = _named(options)
    print(desk.start(exercise, framework, options.file))
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check a file; returns 0 if it is right and 1 if it is not yet. Raises ValueError where there is no file."""
    exercise, framework = _named(options)
    check_number("--seconds", options.seconds, above=0.0)
    file = desk.file_of(exercise, framework, options.file)
    seen = _state(file)  # before the check, so that no change is missed
    passed = _check(exercise, framework, file, options)
    while options.watch and not passed:
        seen = _wait_for_change(file, seen)
        passed = _check(exercise, framework, file, options)
    return 0 if passed else 1


def run_hint(options: argparse.Namespace) -> int:
    """Print one more hint; returns 0."""
    print(desk.hint(find(options.id)))
    return 0


def run_solution(options: argparse.Namespace) -> int:
    """Print the solution of the package; returns 0. Raises ImportError where the framework is not installed."""
    print(describe_solution(*_named(options)))
    return 0


def run_reset(options: argparse.Namespace) -> int:
    """Restore a starter; returns 0."""
    print(desk.reset(*_named(options), options.file))
    return 0


def run_status(options: argparse.Namespace) -> int:
    """Print what is solved; returns 0."""
    print(status_text(read_progress()))
    return 0


def _named(options) -> tuple[Exercise, str]:
    exercise = find(options.id)
    return exercise, desk.choose_framework(exercise, options.framework)


def _check(exercise, framework, file, options):
    passed, text = desk.check_again(exercise, framework, file, options.seconds)
    waiting = options.watch and not passed
    print(f"{text}\n\nWaiting for a change of {file.name}; Ctrl-C ends.\n" if waiting else text, flush=True)
    return passed


def _wait_for_change(file: Path, seen):
    """The state of a file that differs from what was seen of it; a file that is gone is waited for."""
    while (found := _state(file)) in (seen, None):
        time.sleep(_WAIT)
    return found


def _state(file):
    """What changes when a file is written; None where there is none, as while an editor replaces it."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
