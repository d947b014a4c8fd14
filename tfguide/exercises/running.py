"""Check a reader's file in a process of its own, which an endless loop, a crash or `sys.exit` ends and nothing else."""

from __future__ import annotations

import json
import linecache
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tfguide.exercises.checking import Outcome
from tfguide.exercises.entry import Exercise

_START = 120.0  # seconds that Python and a framework may take to start, beside those of the reader's code


def check_file(exercise: Exercise, file: Path, framework: str, seconds: float = 20.0) -> Outcome:
    """What `check_function` says of the function in a file. What the file prints goes to the same places as always.

    seconds: how long the reader's code may run. Raises ValueError where the file does not exist.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist: `tfguide exercise start {exercise.id}` writes it")
    with tempfile.TemporaryDirectory() as folder:
        outcome, trace = Path(folder, "outcome.json"), Path(folder, "trace")
        command = [sys.executable, "-m", "tfguide.exercises.child", str(file), exercise.id, framework]
        command += [str(outcome), str(trace), str(seconds)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_START + seconds)
        except subprocess.TimeoutExpired:
            return _stopped(exercise, f"It was not done after {_START + seconds:g} seconds.")
        if outcome.exists():
            return Outcome(**json.loads(outcome.read_text(encoding="utf-8")))
        text = trace.read_text(encoding="utf-8", errors="replace") if trace.exists() else ""
    where = _last_line(text, file)
    if text.startswith("Timeout"):
        return _stopped(exercise, f"It was not done after {seconds:g} seconds: an endless loop?{where}")
    return _stopped(exercise, f"{_ended(done.returncode)}{where}")


def _stopped(exercise, what):
    return Outcome(False, f"{exercise.id}: not yet.\n{what}")


def _ended(code):
    if code >= 0:
        return f"Its process ended by itself, with status {code}, before the check was done: os._exit?"
    return f"Its process crashed with {signal.Signals(-code).name}."


def _last_line(trace, file):
    """The line of the reader's file that was run. trace: of faulthandler, where the innermost frame comes first."""
    lines = re.findall(r'File "(.*?)", line (\d+)', trace)
    own = [int(line) for name, line in lines if name == str(file)]
    return f"\nIt was at line {own[0]}: {linecache.getline(str(file), own[0]).strip()}" if own else ""
