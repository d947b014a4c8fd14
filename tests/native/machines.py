"""The machines that the kernels are tested for: levels of this processor, ARM by qemu, and other compilers."""

import contextlib
import importlib
import shutil
from dataclasses import dataclass

import pytest

from tests.native.remote import Remote, compile_program
from tfguide.native import compiler, machine

library = importlib.import_module("tfguide.native.library")
USERS = ("linear", "decoder", "rowwise", "memory")  # the modules of tfguide.native that call `library`
EXTENSIONS = {  # of a level: what Linux calls them, and the compilers
    "x86-64-v3": [("avx_vnni", "avxvnni")],
    "x86-64-v4": [("avx512_vnni", "avx512vnni"), ("avx512_bf16", "avx512bf16")],
}


@dataclass(frozen=True)
class Machine:
    """A compiler, its options, and what starts the program; without a compiler a level that TFGUIDE_MARCH names."""

    options: tuple[str, ...]
    compilers: tuple[str, ...] = ()  # the first one that is installed
    runner: tuple[str, ...] = ()

    @contextlib.contextmanager
    def kernels(self):
        """The kernels of this machine, which the package uses meanwhile. Skips the test if something is missing."""
        if self.compilers and not any(map(shutil.which, self.compilers)):
            pytest.skip(f"{self.compilers[0]} is not installed")
        if self.runner and not shutil.which(self.runner[0]):
            pytest.skip(f"{self.runner[0]} is not installed")
        with pytest.MonkeyPatch.context() as patch, self._kernels(patch) as kernels:
            for name in USERS:
                patch.setattr(importlib.import_module(f"tfguide.native.{name}"), "library", lambda: kernels)
            yield kernels

    @contextlib.contextmanager
    def _kernels(self, patch):
        if not self.compilers:
            patch.setenv("TFGUIDE_MARCH", *self.options)
            yield library.library.__wrapped__()
            return
        words = [next(filter(None, map(shutil.which, self.compilers))), *self.options]
        remote = Remote([*self.runner, str(compile_program(words))])
        yield remote
        remote.close()


def _levels() -> dict[str, Machine]:
    """Each level that this processor has, alone and with each extension more that it has."""
    found = []
    for level in machine.levels():
        found.append(level)
        for flag, extension in EXTENSIONS.get(level, ()):
            if flag in machine.processor().split():
                level = f"{level}+{extension}"
                found.append(level)
    # x86-64-v2 has no instruction that the kernels name: they are as for x86-64.
    return {level: Machine((level,)) for level in found if level != "x86-64-v2"}


def _arm(march: str, processor: str, *compilers: str, options: tuple[str, ...] = ()) -> Machine:
    """An instruction set of ARM, on a processor that has nothing else."""
    return Machine((*options, f"-march={march}"), compilers, ("qemu-aarch64", "-cpu", processor))


GCC_FOR_ARM, CLANG = "aarch64-linux-gnu-g++", ("clang++-14", "clang++")
OLDEST_GCC = ("g++-11", "g++-12", "g++-13", "g++")
MACHINES = {
    **_levels(),
    "ARM": _arm("armv8-a", "cortex-a53", GCC_FOR_ARM),
    "ARM with dotprod": _arm("armv8.2-a+dotprod", "neoverse-n1", GCC_FOR_ARM),
    "ARM with i8mm and bf16": _arm("armv8.2-a+dotprod+i8mm+bf16", "max", GCC_FOR_ARM),
}
NATIVE = tuple(compiler.options(compiler.NATIVE, machine.is_x86()))
LOWEST = tuple(compiler.options(machine.levels()[-1], machine.is_x86()))
COMPILERS = {
    "the oldest GCC": Machine(NATIVE, OLDEST_GCC),
    "the oldest GCC for the lowest level": Machine(LOWEST, OLDEST_GCC),
    "clang": Machine(NATIVE, CLANG),
    "clang for the lowest level": Machine(LOWEST, CLANG),
    "clang for ARM with dotprod": _arm(
        "armv8.2-a+dotprod", "neoverse-n1", *CLANG, options=("--target=aarch64-linux-gnu",)
    ),
}
if "x86-64-v3" in machine.levels():
    COMPILERS["the oldest GCC for x86-64-v3"] = Machine(("-march=x86-64-v3",), OLDEST_GCC)
    COMPILERS["clang for x86-64-v3"] = Machine(("-march=x86-64-v3",), CLANG)
