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

from tfguide.temporary import hidden_folder, remove_orphans, sync

SOURCES = ("vectors.h", "linear.h", "rowwise.h", "team.h", "decoder.cpp")
COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: it would make the whole process flush small numbers to 0, and forget what NaN is.
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-w")


class NativeUnavailable(RuntimeError):
    """The C++ kernels cannot be built or are switched off; the message says why and what to do."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels. The first call on a machine compiles for about 5 seconds and keeps the result.

    It is kept in the folder that TFGUIDE_CACHE names, or in tfguide of XDG_CACHE_HOME (~/.cache), under a name that
    changes with the source, the compiler and the processor, and that has a digest of the file in it: what is not whole
    is never loaded, but compiled again. CXX names another compiler; TFGUIDE_NATIVE=0 switches the kernels off.
    Raises NativeUnavailable.
    """
    if os.environ.get("TFGUIDE_NATIVE", "1") == "0":
        raise NativeUnavailable("the C++ kernels are switched off by TFGUIDE_NATIVE=0")
    command = _command()
    name = f"kernels-{_key(command)}"
    file = _find(_named_folder(), name)  # which may be one that others filled, and that cannot be written
    if file is None:
        folder = _writable_folder()
        file = _find(folder, name) or _compile(command, folder, name)
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise NativeUnavailable(f"the C++ kernels were built, but do not load: {error}") from error
    loaded.tfguide_read.restype = ctypes.c_float
    return loaded


def use_huge_pages(address: int, n_bytes: int) -> bool:
    """Ask Linux to put memory that is filled already into pages of 2 MB; whether it did.

    A read of all weights touches a new page of 4 KB every few hundred nanoseconds, and each must be looked up: large
    pages made the same reading 10 to 20% faster where it was measured. Elsewhere than on Linux 6.1 or later: False.
    """
    huge, collapse = 1 << 21, 25  # MADV_COLLAPSE
    first, last = -(-address // huge) * huge, (address + n_bytes) // huge * huge
    if last <= first or platform.system() != "Linux":
        return False
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    return madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), collapse) == 0


def is_available() -> bool:
    """Whether the C++ kernels can be used here; builds them where they are not built yet."""
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
    for name in SOURCES:
        seen.update((Path(__file__).parent / name).read_bytes())
    seen.update(subprocess.run([*command, "--version"], capture_output=True).stdout)
    seen.update(_processor().encode())
    return seen.hexdigest()[:16]


def processor_vendor() -> str:
    """Who made the processor, as it says itself: "GenuineIntel", "AuthenticAMD". "" where that is not known."""
    return (_processor_line("vendor_id") or "").partition(":")[2].strip()


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared by machines that differ."""
    line = _processor_line("flags", "Features")
    return f"{platform.machine()} {platform.processor()}" if line is None else line


def _processor_line(*names):
    """The first line of Linux's description that starts with one of the names, or ""; None elsewhere."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line for line in lines if line.startswith(names)), "")
    except OSError:
        return None


def _find(folder: Path | None, name: str) -> Path | None:
    """The kernels of a name in a folder, if a whole file is there.

    A file that was cut short by a full disk, once loaded, ends the process as soon as it reads what is not there.
    """
    if folder is None:
        return None
    with contextlib.suppress(OSError):
        return next((file for file in sorted(folder.glob(f"{name}-*.so")) if _is_whole(file)), None)
    return None


def _is_whole(file):
    try:
        return file.stem.rpartition("-")[2] == _digest(file.read_bytes())
    except OSError:  # a folder of that name, or a file of somebody else's
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _named_folder() -> Path | None:
    """Where the kernels are kept; None where there is no home folder."""
    if named := os.environ.get("TFGUIDE_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfguide"
    except RuntimeError:
        return None


def _writable_folder() -> Path:
    """The same, made and tried; where it cannot be written and was not asked for, a folder of the user's in /tmp."""
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
    """One folder for each user, so that the next process finds what this one built; nobody else can have written it."""
    if hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / f"tfguide-{os.getuid()}"
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                return folder
    return Path(tempfile.mkdtemp(prefix="tfguide-"))


def _compile(command: list[str], folder: Path, name: str) -> Path:
    """Compile under a hidden name and rename: another process that builds too sees all of it or nothing."""
    remove_orphans(folder, name)
    try:
        with hidden_folder(folder, name) as hidden:
            built = hidden / "kernels.so"
            source = str(Path(__file__).parent / "decoder.cpp")
            environment = {**os.environ, "TMPDIR": str(hidden)}  # what a killed compiler leaves lies there too
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
