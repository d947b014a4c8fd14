"""What took long to find out about a file, kept from process to process until the file changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from tfguide.temporary import write_file

RECENT = 2.0  # seconds: a file that changed just now may change again with the same times


def cache_folder() -> Path | None:
    """The folder that TFGUIDE_CACHE names, or tfguide of XDG_CACHE_HOME (~/.cache); None if there is no home folder."""
    if named := os.environ.get("TFGUIDE_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfguide"
    except RuntimeError:
        return None


def key_of(files: Iterable[Path], *more: str) -> str | None:
    """A name for some files as they are now and for other texts; None where the system cannot tell a later change.

    It changes with the path, the size, the times and the place on the disk of each file.
    """
    seen = hashlib.sha256()
    for file in files:
        file = file.resolve()
        try:
            found = file.stat()
        except OSError:
            return None
        if time.time() - max(found.st_ctime, found.st_mtime) < RECENT:
            return None
        identity = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)
        seen.update(f"{file}\0{identity}\0".encode())
    seen.update("\0".join(more).encode())
    return seen.hexdigest()[:32]


def recall(name: str, key: str | None) -> str | None:
    """What `keep` kept under a name and a key; None where there is nothing, or nothing whole."""
    file = _file(name, key)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest, _, text = file.read_bytes().decode().partition("\n") if file else ("", "", "")
        if digest == _digest(text):
            return text
    return None


def keep(name: str, key: str | None, text: str) -> None:
    """Keep a text for `recall`, where the folder can be written."""
    file = _file(name, key)
    if file is not None:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, f"{_digest(text)}\n{text}")


def _file(name, key):
    folder = cache_folder()
    return None if folder is None or key is None else folder / f"{name}-{key}.txt"


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
