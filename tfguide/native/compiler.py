"""Find the machine's C++ compiler, compile the kernels for a level of its processor, and try what came out."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tfguide.facts import keep, key_of, recall
from tfguide.native.machine import DEFAULT, is_x86, levels, processor

COMPILERS = ("c++", "g++", "clang++")
# No -ffast-math: it would make the whole process flush small numbers to 0, and the compiler ignore NaN.
# For some processors (Zen) GCC splits a multiply-add that follows another one, in loops with one sum and not in those
# with several: a row alone would then be rounded unlike the same row beside others.
FLAGS = (
    "-O3", "-std=c++17", "-fvisibility=hidden", "-pthread", "-fno-math-errno", "-fno-trapping-math", "-w",
    "--param=avoid-fma-max-bits=0",
)  # fmt: skip
# How the files of programs begin: ELF, and Mach-O for one processor.
PROGRAMS = (b"\x7fELF", b"\xcf\xfa\xed\xfe")
VARIABLES = ("PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "CPATH", "CPLUS_INCLUDE_PATH", "SDKROOT")  # of compilers
NATIVE = "native"  # the level that the compiler finds out by itself
# What the process of `try_library` runs. It imports nothing but ctypes, so that it takes 0.05 seconds.
TRIAL = "import sys; from ctypes import CDLL; CDLL(sys.argv[1]).tfguide_try()"
TRIAL_SECONDS = 60  # of a trial that takes less than one


class NativeUnavailable(RuntimeError):
    """The C++ kernels cannot be built or are switched off; the message says why and what to do."""


def find_compiler() -> list[str]:
    """The words of a command that starts the C++ compiler. Raises NativeUnavailable."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else COMPILERS
    for name in names:
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            return words
    raise NativeUnavailable(
        f"no C++ compiler: looked for {', '.join(names)}. Install one (Debian: apt install g++; macOS: xcode-select "
        "--install), or name it in CXX"
    )


def wanted_levels() -> list[str]:
    """The levels to compile for, the best one first: that of TFGUIDE_MARCH alone, or all that this processor has."""
    chosen = os.environ.get("TFGUIDE_MARCH")
    return [chosen] if chosen else [NATIVE, *levels()]


def options(level: str, x86: bool) -> list[str]:
    """The compiler's options for a level: a name that -march takes, then extensions, "x86-64-v3+avxvnni".

    ARM's -march takes the extensions as they are; for x86 each becomes an option, -mavxvnni. x86: of the target.
    """
    if level == DEFAULT:
        return []
    if level == NATIVE and not x86:
        return ["-mcpu=native"]  # the -march of some compilers for ARM does not know it
    if not x86:
        return [f"-march={level}"]
    name, *extensions = level.split("+")
    return [f"-march={name}", *(f"-m{extension}" for extension in extensions)]


def describe_compiler(command: Sequence[str], level: str) -> str:
    """The compiler's version and its macros for a level. For the level "native" they name the instructions it found.

    The answer of a compiler that is a program, and no script that may call another one, is kept until the program, the
    processor or a variable that the compiler reads changes: the two calls take 20 milliseconds.
    """
    command = [*command, *options(level, is_x86())]
    key = _compiler_key(command)
    found = recall("compiler", key)
    if found is None:
        texts = [
            subprocess.run([*command, *more], capture_output=True, text=True)
            for more in (["-E", "-dM", "-x", "c++", os.devnull], ["--version"])
        ]
        found = "\n".join(done.stdout + done.stderr for done in texts)
        if all(done.returncode == 0 for done in texts):
            keep("compiler", key, found)
    return found


def _compiler_key(command):
    """What the answer of a compiler depends on, as a name; None where that is not known."""
    program = Path(shutil.which(command[0]) or command[0])
    try:
        with open(program, "rb") as file:
            is_program = file.read(4) in PROGRAMS
    except OSError:
        return None
    variables = (f"{name}={os.environ.get(name)}" for name in VARIABLES)
    return key_of([program], *command, *variables, processor()) if is_program else None


def compile_library(command: Sequence[str], level: str, source: Path, built: Path) -> str:
    """Compile a file of C++ to a shared library; return "", or why it failed: the last lines of the compiler."""
    command = [*command, *FLAGS, "-shared", "-fPIC", *options(level, is_x86()), str(source), "-o", str(built)]
    environment = {**os.environ, "TMPDIR": str(built.parent)}  # a killed compiler leaves its files there too
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return ""
    last = "\n".join(done.stderr.strip().splitlines()[-5:])
    return f"the C++ compiler {command[0]} failed on the kernels:\n{last}"


def try_library(built: Path) -> str:
    """Run each kernel of a library once, in a process of its own; return "", or that an instruction was illegal.

    A processor that lacks an instruction ends the process, and no Python can catch that. It happens where a compiler
    takes another machine for this one, or where a virtual machine hides instructions.
    Raises NativeUnavailable for a library that fails in another way: no lower level would help.
    """
    if not sys.executable:  # Python inside another program: there is nothing that the trial could run in
        return ""
    # -S and -P: neither installed packages nor files of the current folder take part.
    command = [sys.executable, "-S", "-P", "-c", TRIAL, str(built)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise NativeUnavailable(f"the C++ kernels were built, but do not end within {TRIAL_SECONDS} s") from None
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGILL:
        return "the processor lacks an instruction that the compiled kernels use (SIGILL)"
    if done.returncode < 0:
        raise NativeUnavailable(f"the C++ kernels were built, but end with {signal.Signals(-done.returncode).name}")
    last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    raise NativeUnavailable(f"the C++ kernels were built, but do not load: {last[0]}")
