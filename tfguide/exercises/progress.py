"""What a reader has done, in one JSON file: which exercises are started, how many hints were shown, what is solved."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfguide.temporary import write_file

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

#: The variable of the environment that names another folder.
FOLDER = "TFGUIDE_DATA"

VERSION = 1


def progress_file() -> Path:
    """The file: `exercises.json` in the folder that TFGUIDE_DATA names, else in `tfguide` of the user's data folder.

    The data folder is XDG_DATA_HOME where that is an absolute path, else `~/.local/share`.
    """
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER]) / "exercises.json"
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else Path.home() / ".local/share") / "tfguide" / "exercises.json"


def read_progress() -> dict[str, dict[str, Any]]:
    """What is kept of each exercise, by its id: "files" and "solved" by framework, and "hints", a number.

    An exercise that was never touched has no entry. Raises ValueError for a file that cannot be understood, which stays
    as it is, and OSError.
    """
    file = progress_file()
    try:
        return _parse(file, file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise _broken(file, str(error)) from error


@contextlib.contextmanager
def changing(id: str) -> Iterator[dict[str, Any]]:
    """The entry of one exercise, to be changed in the block and written at its end, whole or not at all.

    Another process that changes the file waits meanwhile, where the system has locks (not on Windows). Nothing is
    written if the block raises. Raises as `read_progress`.
    """
    file = progress_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.with_suffix(".lock")):
        progress = read_progress()
        entry = progress.setdefault(id, {})
        for name, empty in (("files", {}), ("solved", {}), ("hints", 0)):
            entry.setdefault(name, empty)
        yield entry
        text = json.dumps({"version": VERSION, "exercises": progress}, indent=1, sort_keys=True)
        write_file(file, text + "\n")


def _parse(file, text):
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _broken(file, str(error)) from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        version = found.get("version") if isinstance(found, dict) else None
        raise _broken(file, f"expected version {VERSION}, got {version!r}")
    exercises = found.get("exercises")
    if not isinstance(exercises, dict) or not all(map(_is_entry, exercises.values())):
        raise _broken(file, "its exercises are not those that this program writes")
    return exercises


def _is_entry(entry):
    kinds = {"files": dict, "solved": dict, "hints": int}
    return isinstance(entry, dict) and all(isinstance(entry.get(name, kind()), kind) for name, kind in kinds.items())


def _broken(file, why):
    return ValueError(
        f"the progress in {file} cannot be read: {why}. It stays as it is: mend it, or move it away to begin anew"
    )


@contextlib.contextmanager
def _locked(file):
    with open(file, "a") as lock:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # the lock ends where the file is closed, however the process ends
