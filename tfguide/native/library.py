"""Load the compiled C++ of this folder, which is built once with the machine's own compiler and kept."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import warnings
from pathlib import Path

from tfguide.facts import cache_folder
from tfguide.native import abi, compiler
from tfguide.native.compiler import NativeUnavailable
from tfguide.native.machine import processor, processor_vendor
from tfguide.temporary import hidden_folder, remove_orphans, sync, write_file

FOLDER = Path(__file__).parent  # where the C++ lies; kernels.cpp includes all the headers


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. The first call on a machine compiles for about 10 seconds and keeps the result.

    The file is kept in the folder that TFGUIDE_CACHE names, or in tfguide of XDG_CACHE_HOME (~/.cache). Its name
    changes with the source, the compiler and the processor, and contains a digest of the file: a file that is not whole
    is compiled again, never loaded. CXX names another compiler; TFGUIDE_NATIVE=0 switches the kernels off.

    The kernels are compiled for this processor and tried in a process of their own. Where the compiler does not know
    the processor, or the trial ends with an illegal instruction, the next lower level takes its place, with a warning.
    TFGUIDE_MARCH chooses the level, without a lower one: a value of the compiler's -march, and extensions after a
    plus: "x86-64-v3", "x86-64-v3+avxvnni", "armv8.2-a+dotprod". Where it does not work, this is kept like a file of
    kernels, and no later process compiles for it again; the error names the file, which can be removed.
    Raises NativeUnavailable; RuntimeError if the C++ has other structures, codes or limits than abi.py.
    """
    command, levels = _wanted()
    name = f"kernels-{_key(command, levels)}"
    file = _find(cache_folder(), name)  # this folder may be another user's, which cannot be written
    if file is None:
        folder = _writable_folder()
        file = _find(folder, name)
        if file is None:
            _check_failed_before(folder, name)
            file = _compile(command, levels, folder, name)
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise NativeUnavailable(f"the C++ kernels were built, but do not load: {error}") from error
    abi.declare(loaded)
    abi.check(loaded)
    return loaded


def is_available() -> bool:
    """Whether the C++ kernels can be used here; builds them if they are not built yet."""
    try:
        library()
    except NativeUnavailable:
        return False
    return True


def is_built() -> bool:
    """Whether the kernels for this machine are in the folder that keeps them; builds nothing.

    Raises NativeUnavailable where they are switched off or there is no compiler.
    """
    return _find(cache_folder(), f"kernels-{_key(*_wanted())}") is not None


def _wanted() -> tuple[list[str], list[str]]:
    """The compiler's command and the levels to compile for. Raises NativeUnavailable."""
    if os.environ.get("TFGUIDE_NATIVE", "1") == "0":
        raise NativeUnavailable("the C++ kernels are switched off by TFGUIDE_NATIVE=0")
    return _command(), compiler.wanted_levels()


def _command() -> list[str]:
    return [*compiler.find_compiler(), f"-DIS_AMD={int(processor_vendor() == 'AuthenticAMD')}"]


def _key(command: list[str], levels: list[str]) -> str:
    seen = hashlib.sha256(" ".join([*command, *compiler.FLAGS, *levels]).encode())
    for file in sorted([*FOLDER.rglob("*.h"), FOLDER / "kernels.cpp"]):
        seen.update(str(file.relative_to(FOLDER)).encode() + file.read_bytes())
    seen.update(compiler.describe_compiler(command, levels[0]).encode())
    seen.update(processor().encode())
    return seen.hexdigest()[:16]


def _find(folder: Path | None, name: str) -> Path | None:
    """The kernels of a name in a folder, if a complete file exists.

    A full disk cuts a file short. Such a file loads, and ends the process when it reads a page that is missing.
    """
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        return next((file for file in sorted(folder.glob(f"{name}-*.so")) if _is_whole(file)), None)
    return None


def _is_whole(file):
    try:
        return file.stem.rpartition("-")[2] == _digest(file.read_bytes())
    except OSError:  # a folder of that name, or another user's file
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _writable_folder() -> Path:
    """The named folder, once a file could be written there; without TFGUIDE_CACHE else a folder of the user in /tmp."""
    folder, error = cache_folder(), "there is no home folder"
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as reason:
            error = reason
    if os.environ.get("TFGUIDE_CACHE"):
        raise NativeUnavailable(f"TFGUIDE_CACHE names a folder that cannot be written: {error}")
    return _own_temporary_folder()


def _own_temporary_folder() -> Path:
    """One folder for each user, so that the next process finds what this one built; no other user can write to it."""
    if os.name == "posix":
        folder = Path(tempfile.gettempdir()) / f"tfguide-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return folder
    return Path(tempfile.mkdtemp(prefix="tfguide-"))


def _compile(command: list[str], levels: list[str], folder: Path, name: str) -> Path:
    """Compile under a hidden name and rename: a process that builds at the same time sees a complete file or none."""
    remove_orphans(folder, name)
    try:
        with hidden_folder(folder, name) as hidden:
            built = hidden / "kernels.so"
            if reason := _build(command, levels, built):
                raise NativeUnavailable(_remember(folder, name, reason))
            sync(built)
            file = folder / f"{name}-{_digest(built.read_bytes())}.so"
            for wrong in folder.glob(f"{name}-*.so"):
                if not _is_whole(wrong):
                    _remove(wrong)
            os.replace(built, file)
    except OSError as error:
        raise NativeUnavailable(f"the C++ kernels cannot be kept in {folder}: {error}") from error
    return file


def _build(command: list[str], levels: list[str], built: Path) -> str:
    """Compile for the first of the levels that the compiler knows and the processor runs; warn if it is a lower one.

    Returns "", or why no level works.
    """
    failed: dict[str, str] = {}
    for level in levels:
        reason = compiler.compile_library(command, level, FOLDER / "kernels.cpp", built) or compiler.try_library(built)
        if not reason:
            if failed:
                text = f"the C++ kernels are compiled for {level}, since no higher level works here. {_text(failed)}"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
            return ""
        failed[level] = reason
    return _text(failed)


def _remember(folder: Path, name: str, reason: str) -> str:
    """Keep why the level of TFGUIDE_MARCH does not work, so that no other process compiles it; return the message."""
    if not os.environ.get("TFGUIDE_MARCH"):
        return reason
    reason += "\nTFGUIDE_MARCH chooses this level: name another, or unset it"
    file = _failure(folder, name)
    try:
        write_file(file, reason)
    except OSError:  # the next process compiles, and learns it again
        return reason
    return f"{reason}. It is not compiled again while {file} is there"


def _check_failed_before(folder: Path, name: str) -> None:
    """Raise NativeUnavailable with the reason that an earlier process kept."""
    file = _failure(folder, name)
    with contextlib.suppress(OSError):
        reason = file.read_text(encoding="utf-8")
        raise NativeUnavailable(f"{reason}. It failed before: remove {file} to compile again")


def _failure(folder: Path, name: str) -> Path:
    return folder / f"{name}-failed.txt"


def _text(failed):
    """Each reason once, after the levels that failed for it."""
    reasons = {reason: [level for level in failed if failed[level] == reason] for reason in failed.values()}
    return "\n".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
