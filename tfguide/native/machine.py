"""What the kernels need to know about the machine: its processor, its cores and its large pages."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import platform
import sys


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def default_threads(framework: int = 0) -> int:
    """The threads of kernels where none are named: TFGUIDE_THREADS, else those of the framework, else all cores.

    Raises ValueError for a TFGUIDE_THREADS that is not an integer of at least 1.
    """
    named = os.environ.get("TFGUIDE_THREADS", "")
    if not named:
        return framework or cores()
    if not named.isascii() or not named.isdigit() or int(named) < 1:
        raise ValueError(f"TFGUIDE_THREADS must be an integer of at least 1, got {named!r}")
    return int(named)


def processor_vendor() -> str:
    """The processor's vendor string: "GenuineIntel", "AuthenticAMD"; "" if unknown."""
    return _processor_fields().get("vendor_id", "")


def processor() -> str:
    """The processor's model and instruction sets, as text: different machines may share a home folder."""
    names = (
        "vendor_id", "cpu family", "model", "stepping", "flags",  # x86
        "CPU implementer", "CPU variant", "CPU part", "CPU revision", "Features",  # ARM
    )  # fmt: skip
    fields = _processor_fields()
    known = [f"{name}: {fields[name]}" for name in names if name in fields]
    return "\n".join([f"{platform.machine()} {platform.processor()}", *known])


def is_x86() -> bool:
    """Whether this is a 64-bit x86 processor."""
    return platform.machine() in ("x86_64", "AMD64")


# Levels of the instruction sets, the best one first. With each: what Linux calls the instructions that it adds to the
# levels below it. The names are those of the option -march of GCC and clang.
X86_LEVELS = {
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "x86-64-v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "x86-64": "",
}
ARM_LEVELS = {
    "armv8.2-a+dotprod+i8mm+bf16": "i8mm bf16",
    "armv8.2-a+dotprod": "atomics asimdrdm asimddp",
    "armv8-a": "",
}
DEFAULT = "default"  # what the compiler assumes where nothing is named: all that is known of other processors


def levels() -> list[str]:
    """The levels that this processor has, the best one first; all of its kind where the system does not say."""
    if is_x86():
        known = X86_LEVELS
    elif platform.machine() in ("aarch64", "arm64"):
        known = ARM_LEVELS
    else:
        return [DEFAULT]
    fields = _processor_fields()
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    if not flags:
        return list(known)
    found: list[str] = []
    for level, needed in reversed(known.items()):
        if not set(needed.split()) <= set(flags):
            break
        found.insert(0, level)
    return found


def _processor_fields() -> dict[str, str]:
    """Linux's description of the first processor; empty on other systems."""
    try:
        with open("/proc/cpuinfo") as lines:
            first = itertools.takewhile(str.strip, lines)
            pairs = (line.partition(":") for line in first)
            return {name.strip(): value.strip() for name, _, value in pairs}
    except OSError:
        return {}


def forget(address: int, n_bytes: int) -> None:
    """Give back memory that is mapped from a file and was read: the next access reads it from the file again.

    Only whole pages; nothing happens except on Linux.
    """
    page, dont_need = mmap.PAGESIZE, 4  # MADV_DONTNEED
    first, last = -(-address // page) * page, (address + n_bytes) // page * page
    if last > first and sys.platform == "linux":
        _madvise(first, last - first, dont_need)


def use_huge_pages(address: int, n_bytes: int) -> bool:
    """Ask Linux to move memory that is already filled into pages of 2 MB; return whether it did.

    A read of all weights touches a new page of 4 KB every few hundred nanoseconds, and each needs an address lookup:
    large pages made the read 10 to 20% faster where it was measured. False except on Linux 6.1 or later.
    """
    huge, collapse = 1 << 21, 25  # MADV_COLLAPSE
    first, last = -(-address // huge) * huge, (address + n_bytes) // huge * huge
    if last <= first or sys.platform != "linux":
        return False
    return _madvise(first, last - first, collapse) == 0


def _madvise(address, n_bytes, advice):
    return ctypes.CDLL(None, use_errno=True).madvise(ctypes.c_void_p(address), ctypes.c_size_t(n_bytes), advice)
