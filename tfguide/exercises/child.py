"""The process in which a reader's file is run.

    python -m tfguide.exercises.child FILE ID FRAMEWORK OUTCOME TRACE SECONDS

It writes what there is to say into the file OUTCOME. Where the reader's file runs out of time or crashes, there is
none, and the file TRACE holds the lines that were being run.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tfguide.exercises.checking import Outcome, check_function, explain
from tfguide.exercises.entry import Exercise
from tfguide.exercises.registry import find

#: Seconds that threads and exit functions of the reader's file may still take when the outcome is known.
_AFTER = 2.0


def main(file: str, id: str, framework: str, outcome_file: str, trace_file: str, seconds: str) -> None:
    """Check the function in a file, and write the outcome."""
    exercise = find(id)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if framework != "numpy":
        import_module(f"tfguide.{framework}")  # takes seconds, which are not those of the reader's code
    with open(trace_file, "w") as trace:
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(float(seconds), exit=True, file=trace)
        outcome = run_file(exercise, file, framework)
        faulthandler.disable()
        faulthandler.cancel_dump_traceback_later()
    text = json.dumps({"passed": outcome.passed, "text": outcome.text})
    Path(outcome_file).write_text(text, encoding="utf-8")
    faulthandler.dump_traceback_later(_AFTER, exit=True, file=os.open(os.devnull, os.O_WRONLY))


def run_file(exercise: Exercise, file: str, framework: str) -> Outcome:
    """Run a file from its first line, and check the function that the exercise asks for."""
    sys.path.insert(0, str(Path(file).resolve().parent))
    module = sys.modules["exercise"] = ModuleType("exercise")  # where dataclasses and the like look for it
    names = vars(module)
    names["__file__"] = file
    try:
        exec(compile(Path(file).read_bytes(), file, "exec"), names)
    except (Exception, SystemExit) as error:
        return Outcome(False, f"{exercise.id}: not yet.\n{explain(error, file)}")
    function = names.get(exercise.name)
    if not callable(function):
        return Outcome(False, f"{exercise.id}: not yet.\n{file} has no function `{exercise.signature}`.")
    return check_function(exercise, function, framework)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
