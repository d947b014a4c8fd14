"""Build the C++ of this folder with the machine's own compiler, once, and load it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from tfguide.native import abi
from tfguide.native.machine import processor, processor_vendor
from tfguide.temporary import hidden_folder, remove_orphans, sync

FOLDER = Path(__file__).parent  # where the C++ lies; kernels.cpp includes all the headers
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: it would make the whole process flush small numbers to 0, and the compiler ignore NaN.
FLAGS = (
    "-O3", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", "-fno-math-errno",
    "-fno-trapping-math", "-w",
)  # fmt: skip


class NativeUnavailable(RuntimeError):
    """The C++ kernels cannot be built or are switched off; the message says why and what to do."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. The first call on a machine compiles for about 5 seconds and keeps the result.

    The file is kept in the folder that TFGUIDE_CACHE names, or in tfguide of XDG_CACHE_HOME (~/.cache). Its name
    changes with the source, the compiler and the processor, and contains a digest of the file: a file that is not whole
    is compiled again, never loaded. CXX names another compiler; TFGUIDE_NATIVE=0 switches the kernels off.
    Raises NativeUnavailable; RuntimeError if the C++ has other structures, codes or limits than abi.py.
    """
    if os.environ.get("TFGUIDE_NATIVE", "1") == "0":
        raise NativeUnavailable("the C++ kernels are switched off by TFGUIDE_NATIVE=0")
    command = _command()
    name = f"kernels-{_key(command)}"
    file = _find(_named_folder(), name)  # this folder may be another user's, which cannot be written
    if file is None:
        folder = _writable_folder()
        file = _find(folder, name) or _compile(command, folder, name)
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


def _command() -> list[str]:
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else COMPILERS
    for name in names:
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            machine = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
            is_amd = f"-DIS_AMD={int(processor_vendor() == 'AuthenticAMD')}"
            return [*words, *FLAGS, machine, is_amd]
    raise NativeUnavailable(
        f"no C++ compiler: looked for {', '.join(names)}. Install one (Debian: apt install g++; macOS: xcode-select "
        "--install), or name it in CXX"
    )


def _key(command) -> str:
    seen = hashlib.sha256(" ".join(command).encode())
    for file in [*sorted(FOLDER.rglob("*.h")), FOLDER / "kernels.cpp"]:
        seen.update(file.name.encode() + file.read_bytes())
    seen.update(subprocess.run([*command, "--version"], capture_output=True).stdout)
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


def _named_folder() -> Path | None:
    """The folder that keeps the kernels; None if there is no home folder."""
    if named := os.environ.get("TFGUIDE_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfguide"
    except RuntimeError:
        return None


def _writable_folder() -> Path:
    """The named folder, once a file could be written there; without TFGUIDE_CACHE else a folder of the user in /tmp."""
    folder, error = _named_folder(), "there is no home folder"
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


def _compile(command: list[str], folder: Path, name: str) -> Path:
    """Compile under a hidden name and rename: a process that builds at the same time sees a complete file or none."""
    remove_orphans(folder, name)
    try:
        with hidden_folder(folder, name) as hidden:
            built = hidden / "kernels.so"
            source = str(FOLDER / "kernels.cpp")
            environment = {**os.environ, "TMPDIR": str(hidden)}  # a killed compiler leaves its files there too
            done = subprocess.run([*command, source, "-o", str(built)], capture_output=True, text=True, env=environment)
            if done.returncode:
                last = "\n".join(done.stderr.strip().splitlines()[-5:])
                raise NativeUnavailable(f"the C++ compiler {command[0]} failed on the kernels:\n{last}")
            sync(built)
            file = folder / f"{name}-{_digest(built.read_bytes())}.so"
            for wrong in folder.glob(f"{name}-*.so"):
                if not _is_whole(wrong):
                    _remove(wrong)
            os.replace(built, file)
    except OSError as error:
        raise NativeUnavailable(f"the C++ kernels cannot be kept in {folder}: {error}") from error
    return file


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
