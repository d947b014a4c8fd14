"""Where a compiler or a processor lacks a level, the next lower one takes its place: no instruction is illegal."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tfguide import native
from tfguide.native import abi, compiler, machine

library = import_module("tfguide.native.library")
pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
ROOT = Path(__file__).parents[2]
LEVELS = machine.levels()
BEST, LOWEST = LEVELS[0], LEVELS[-1]
# A compiler that writes down each level. It refuses those in REFUSED; those in ILLEGAL become a library that meets
# an illegal instruction, those in BROKEN one that ends for another reason; else it gives out the real one.
COMPILER = """#!/bin/sh
for last; do :; done
for option; do
    case "$option" in -m*) machine="$option" ;; esac
done
case "$*" in *" -E "*|*--version) echo "a compiler for $MACROS"; exit ;; esac
echo "$machine" >> "$RUNS"
for word in $REFUSED; do if [ "$machine" = "$word" ]; then echo "no such instruction" >&2; exit 1; fi; done
for word in $ILLEGAL; do if [ "$machine" = "$word" ]; then cp "$SPOILED/SIGILL.so" "$last"; exit; fi; done
for word in $BROKEN; do if [ "$machine" = "$word" ]; then cp "$SPOILED/SIGSEGV.so" "$last"; exit; fi; done
cp "$COMPILED" "$last"
"""
# The same interface, and one signal in the place of the kernels.
SPOILED = """#include <csignal>
extern "C" __attribute__((visibility("default"))) void tfguide_try() { std::raise(SIGNAL); }
"""
HIGHEST = "-march=native" if machine.is_x86() else "-mcpu=native"


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Libraries whose trial ends with a signal."""
    folder = tmp_path_factory.mktemp("spoiled")
    (folder / "spoiled.cpp").write_text(SPOILED)
    for name in ("SIGILL", "SIGSEGV"):
        command = [*compiler.find_compiler(), "-shared", "-fPIC", f"-DSIGNAL={name}", folder / "spoiled.cpp"]
        subprocess.run([*command, "-o", folder / f"{name}.so"], check=True)
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch, spoiled):
    """The file in which the compiler writes down the levels that it was asked for."""
    (tmp_path / "compiler").write_text(COMPILER)
    (tmp_path / "compiler").chmod(0o755)
    runs = tmp_path / "runs"
    runs.touch()
    values = dict(CXX=tmp_path / "compiler", COMPILED=native.library()._name, RUNS=runs, SPOILED=spoiled)
    for name, value in dict(values, TFGUIDE_CACHE=tmp_path / "cache").items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("TFGUIDE_MARCH", raising=False)
    return runs


def load(**environment):
    """Load the kernels and read memory with them in a process of its own: what it wrote, and its exit status."""
    code = "from tfguide import native; print(native.is_available()); print(native.library()._name)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.split(), done.stderr, done.returncode


def option(level):
    return " ".join(compiler.options(level, machine.is_x86()))


@pytest.mark.parametrize("how", ["REFUSED", "ILLEGAL"])
def test_the_next_level_takes_the_place_of_one_that_does_not_work(how, tools, tmp_path):
    (available, name), errors, status = load(**{how: HIGHEST})
    assert (available, status) == ("True", 0)
    assert tools.read_text().split() == [HIGHEST, option(BEST)]
    assert (
        f"RuntimeWarning: the C++ kernels are compiled for {BEST}, since no higher level works here. native:" in errors
    )
    assert ("no such instruction" if how == "REFUSED" else "lacks an instruction") in errors
    assert list((tmp_path / "cache").iterdir()) == [Path(name)]
    (_, again), errors, _ = load(**{how: HIGHEST})  # kept: neither compiled nor tried again
    assert again == name and errors == "" and len(tools.read_text().split()) == 2


def test_the_lowest_level_is_the_last_resort(tools):
    *higher, lowest = LEVELS
    (available, _), errors, _ = load(ILLEGAL=" ".join([HIGHEST, *map(option, higher)]))
    assert available == "True" and f"compiled for {lowest}," in errors
    assert tools.read_text().split() == [HIGHEST, *map(option, LEVELS)]
    assert f"{', '.join(['native', *higher])}: the processor lacks" in errors  # the reason that they share stands once


@pytest.mark.parametrize("how", ["REFUSED", "ILLEGAL"])
def test_without_a_level_that_works_the_kernels_are_unavailable(how, tools, tmp_path):
    everything = " ".join([HIGHEST, *map(option, LEVELS)])
    out, errors, status = load(**{how: everything})
    assert out == ["False"] and status == 1
    assert f"NativeUnavailable: native, {', '.join(LEVELS)}: " in errors
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_chosen_level_has_no_lower_one(tools, tmp_path):
    out, errors, status = load(TFGUIDE_MARCH=BEST, ILLEGAL=option(BEST))
    assert out == ["False"] and status == 1
    assert f"NativeUnavailable: {BEST}: the processor lacks an instruction" in errors
    assert "TFGUIDE_MARCH chooses this level: name another, or unset it" in errors
    assert set(tools.read_text().split()) == {option(BEST)}
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".txt"]  # no kernels, only that there are none


@pytest.mark.parametrize("how", ["REFUSED", "ILLEGAL"])
def test_a_chosen_level_that_failed_is_not_compiled_by_the_next_process(how, tools, tmp_path):
    failing = {how: option(BEST), "TFGUIDE_MARCH": BEST}
    _, first, _ = load(**failing)
    runs = tools.read_text()
    [file] = (tmp_path / "cache").iterdir()
    assert f"It is not compiled again while {file} is there" in first or f"remove {file}" in first
    out, errors, status = load(**failing)
    assert out == ["False"] and status == 1 and tools.read_text() == runs
    reason = "no such instruction" if how == "REFUSED" else "lacks an instruction"
    assert reason in errors and f"It failed before: remove {file} to compile again" in errors
    assert load()[0][0] == "True"  # other levels are not concerned
    assert load(MACROS="another compiler", TFGUIDE_MARCH=BEST)[0][0] == "True"
    file.unlink()
    assert load(TFGUIDE_MARCH=BEST)[0][0] == "True"


def test_what_fails_for_another_reason_is_not_compiled_again(tools):
    """A level below would fail as well, after as long a compile."""
    out, errors, _ = load(BROKEN=HIGHEST)
    assert out == ["False"] and set(tools.read_text().split()) == {HIGHEST}
    assert "NativeUnavailable: the C++ kernels were built, but end with SIGSEGV" in errors
    Path(os.environ["SPOILED"], "SIGSEGV.so").with_name("text.so").write_text("not a library")
    out, errors, _ = load(COMPILED=str(Path(os.environ["SPOILED"], "text.so")))
    assert out == ["False"] and "were built, but do not load: OSError: " in errors


def test_kernels_that_do_not_end_are_not_used(tmp_path, monkeypatch):
    (tmp_path / "slow.cpp").write_text(SPOILED.replace("std::raise(SIGNAL);", "for (;;) std::raise(SIGCONT);"))
    assert not compiler.compile_library(compiler.find_compiler(), "native", tmp_path / "slow.cpp", tmp_path / "slow.so")
    monkeypatch.setattr(compiler, "TRIAL_SECONDS", 0.5)
    with pytest.raises(native.NativeUnavailable, match="do not end within"):
        compiler.try_library(tmp_path / "slow.so")


def test_a_trial_takes_no_package_and_no_file_of_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "ctypes.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    assert compiler.try_library(Path(native.library()._name)) == ""


# ---- the file that is kept belongs to one compiler, one level and one processor


def test_each_level_has_a_file_of_its_own(tools, tmp_path):
    names = {load(TFGUIDE_MARCH=level)[0][1] for level in ("", BEST, LOWEST)}
    assert len(names) == 3 and {Path(name) for name in names} == set((tmp_path / "cache").iterdir())
    assert load(TFGUIDE_MARCH=BEST)[0][1] in names and len(tools.read_text().split()) == 3


def test_a_library_of_another_processor_in_a_shared_home_is_not_loaded(tools, tmp_path, monkeypatch):
    """The other one has a processor of the same kind whose illegal kernels must stay out of this process."""
    first = load()[0][1]
    assert load(MACROS="other instructions")[0][1] != first  # what the compiler finds, as in a virtual machine
    monkeypatch.setattr(library, "processor", lambda: "another one")
    assert library.library.__wrapped__()._name != first
    assert len(tools.read_text().split()) == 3


# ---- the levels of a processor

INTEL = "fpu sse4_1 sse4_2 ssse3 pni cx16 lahf_lm popcnt avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
AVX512 = f"{INTEL} avx512f avx512bw avx512cd avx512dq avx512vl"
ARM = "fp asimd evtstrm aes crc32 atomics fphp asimdhp asimdrdm"
PROCESSORS = {
    "AVX-512": ("x86_64", dict(flags=AVX512), "x86-64-v4 x86-64-v3 x86-64-v2 x86-64"),
    "AVX2": ("AMD64", dict(flags=INTEL), "x86-64-v3 x86-64-v2 x86-64"),
    "AVX-512 in part": ("x86_64", dict(flags=AVX512.replace("avx512bw", "")), "x86-64-v3 x86-64-v2 x86-64"),
    "AVX-512 without AVX2": ("x86_64", dict(flags=AVX512.replace("avx2 ", "")), "x86-64-v2 x86-64"),
    "hidden instructions": ("x86_64", dict(flags="fpu sse sse2"), "x86-64"),
    "x86 that is not described": ("x86_64", {}, "x86-64-v4 x86-64-v3 x86-64-v2 x86-64"),
    "ARM": ("aarch64", dict(Features=f"{ARM} asimddp"), "armv8.2-a+dotprod armv8-a"),
    "new ARM": ("aarch64", dict(Features=f"{ARM} asimddp i8mm bf16"),
                "armv8.2-a+dotprod+i8mm+bf16 armv8.2-a+dotprod armv8-a"),
    "old ARM": ("aarch64", dict(Features="fp asimd crc32"), "armv8-a"),
    "ARM of Apple": ("arm64", {}, "armv8.2-a+dotprod+i8mm+bf16 armv8.2-a+dotprod armv8-a"),
    "unknown": ("riscv64", dict(isa="rv64imafdc"), "default"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_levels_are_those_that_the_processor_has(name, monkeypatch):
    kind, fields, want = PROCESSORS[name]
    monkeypatch.setattr(machine.platform, "machine", lambda: kind)
    monkeypatch.setattr(machine, "_processor_fields", lambda: fields)
    assert machine.levels() == want.split()
    assert compiler.wanted_levels() == ["native", *want.split()]
    text = machine.processor()
    assert kind in text and all(value in text for key, value in fields.items() if key != "isa")


def test_this_processor_is_described():
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc/cpuinfo")
    fields = machine._processor_fields()
    assert len(fields.get("flags", fields.get("Features", "")).split()) > 5


@pytest.mark.parametrize(
    ("level", "x86", "want"),
    [
        ("native", True, "-march=native"),
        ("native", False, "-mcpu=native"),
        ("x86-64-v3", True, "-march=x86-64-v3"),
        ("x86-64-v4+avx512vnni+avx512bf16", True, "-march=x86-64-v4 -mavx512vnni -mavx512bf16"),
        ("armv8.2-a+dotprod", False, "-march=armv8.2-a+dotprod"),
        ("default", False, ""),
    ],
)
def test_a_level_becomes_options_of_the_compiler(level, x86, want):
    assert compiler.options(level, x86) == want.split()


def test_every_level_is_known_to_the_compiler(tmp_path):
    """The names in the table are real: a misspelt one would silently fall back to the next."""
    (tmp_path / "empty.cpp").write_text("")
    for level in machine.levels():
        assert (
            compiler.compile_library(compiler.find_compiler(), level, tmp_path / "empty.cpp", tmp_path / "e.so") == ""
        )


def test_the_trial_is_a_function_of_the_kernels():
    assert "tfguide_try" in compiler.TRIAL and "tfguide_try" in abi.FUNCTIONS
