"""Files and folders written under a hidden name, then renamed, so that no reader sees a part; and their removal."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows, which does not rename or remove what is open
    fcntl = None


@contextlib.contextmanager
def hidden_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new empty folder `.NAME.new-...` to write into, removed when the block ends.

    The process holds a lock on the folder, which the system releases when the process ends: see `remove_orphans`.
    """
    folder, lock = _new_folder(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def beside(hidden: Path) -> Path:
    """A second hidden name that belongs to a folder of `hidden_folder`: `.NAME.old-...`."""
    start, _, end = hidden.name.rpartition(".new-")
    return hidden.with_name(f"{start}.old-{end}")


def remove_orphans(parent: Path, name: str, replaced: bool = False) -> None:
    """Remove the hidden folders of a name whose process is gone.

    A folder without a lock has lost its process. The folders of another machine that shares `parent` stay, and so do
    all where the file system has no locks.
    replaced: remove the folders that `beside` names as well, and those that have one beside them (default: both stay,
    since after a crash between two renames they are the only copies).
    """
    pattern = re.compile(rf"\.{re.escape(name)}\.(new|old)-([0-9a-f]*)-([0-9a-f]*)-[0-9a-f]{{8}}")
    with contextlib.suppress(OSError):
        found = [entry for entry in parent.iterdir() if (match := pattern.fullmatch(entry.name)) and _is_here(match)]
        for new in (entry for entry in found if f".{name}.new-" in entry.name):
            if replaced or not beside(new).exists():
                _remove_orphan(new)
        for old in (entry for entry in found if f".{name}.old-" in entry.name):
            if replaced and not any(beside(new) == old and new.exists() for new in found):
                shutil.rmtree(old, ignore_errors=True)


def write_file(file: str | os.PathLike, text: str) -> None:
    """Write a text file so that a reader sees the old text or all of the new one; write a device or a pipe directly."""
    file = Path(file).resolve()  # a link stays a link
    if file.exists() and not file.is_file():
        file.write_text(text, encoding="utf-8")
        return
    remove_orphans(file.parent, file.name)
    with hidden_folder(file.parent, file.name) as folder:
        written = folder / file.name
        written.write_text(text, encoding="utf-8")
        if file.exists():
            shutil.copymode(file, written)
        sync(written)
        os.replace(written, file)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_folder(parent, name):
    while True:
        folder = parent / f".{name}.new-{'-'.join(_machine())}-{secrets.token_hex(4)}"
        folder.mkdir()
        lock = _lock(folder, fcntl and fcntl.LOCK_EX)
        # Before the folder was locked, another process may have removed it as an orphan.
        if folder.is_dir() if lock is None else _is_still(folder, lock):
            return folder, lock
        if lock is not None:
            os.close(lock)


def _lock(folder, how):
    """An open descriptor with the lock of a folder; None where another one has it, or where there are no locks."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_orphan(folder):
    lock = _lock(folder, fcntl and fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _is_still(folder, lock):
    try:
        return os.path.samestat(os.fstat(lock), os.stat(folder))
    except FileNotFoundError:
        return False


@functools.cache
def _machine() -> tuple[str, str]:
    """The host's name and this start of its system, as short numbers; "" where a system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    return tuple(hashlib.sha256(text.encode()).hexdigest()[:6] if text else "" for text in (socket.gethostname(), boot))


def _is_here(match):
    """Whether a folder was made on this machine: before its last start, or in another container of the same start."""
    return any(ours and ours == theirs for ours, theirs in zip(_machine(), match.groups()[1:], strict=True))
