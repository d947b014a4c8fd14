"""Python and C++ agree in limits, codes and structures, and every difference is an error that names it."""

import ctypes
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from tfguide import native
from tfguide.dtypes import CACHE_DTYPES
from tfguide.native import abi, compiler

pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
FOLDER = Path(abi.__file__).parent
library = import_module("tfguide.native.library")
# As small a library as has the text: it compiles in less than a second.
ONLY_TEXT = """#include "abi_text.h"
extern "C" const char* tfguide_abi() { static const std::string text = abi_text(); return text.c_str(); }
"""


def test_the_kernels_read_every_type_of_cache():
    assert (*abi.CACHE_TYPES, "int4") == CACHE_DTYPES  # the frameworks alone read a cache of 4 bits


def copy_sources(folder, *replacements):
    """The C++ with some words replaced, each of which must be there."""
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"), dirs_exist_ok=True)
    for name, old, new in replacements:
        text = (folder / name).read_text()
        assert text.count(old) == 1, (old, text.count(old))
        (folder / name).write_text(text.replace(old, new))


def compiled_text(folder):
    """A library with the text of the headers in a folder, and nothing else."""
    (folder / "text.cpp").write_text(ONLY_TEXT)
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    command = [compiler, "-std=c++17", "-shared", "-fPIC", str(folder / "text.cpp"), "-o", str(folder / "text.so")]
    subprocess.run(command, check=True, capture_output=True)
    built = ctypes.CDLL(str(folder / "text.so"))
    built.tfguide_abi.restype = ctypes.c_char_p
    return built


def test_the_kernels_have_what_python_has():
    text = native.library().tfguide_abi().decode()
    assert text.strip() == abi.text()
    for word in ("limit MAX_ROWS: 64", "int4 a8 = 9", "structure Linear: 64 bytes", "weight 0+8", "geglu_tanh = 5"):
        assert word in text
    abi.check(native.library())


def test_the_headers_as_they_are_pass(tmp_path):
    copy_sources(tmp_path)
    abi.check(compiled_text(tmp_path))


CHANGES = {
    "another limit": (("abi.h", "MAX_ROWS = 64;", "MAX_ROWS = 8;"), "limit MAX_ROWS: Python has 64; C\\+\\+ has 8"),
    "a code that moved": (
        ("abi.h", "INT8, INT4, INT8_A8, INT4_A8 }", "INT4, INT8, INT8_A8, INT4_A8 }"),
        "codes Format: .*int8 = 6, int4 = 7.*; C\\+\\+ has .*int8 = 7, int4 = 6",
    ),
    "a code that Python does not know": (
        ("abi_text.h", '{{"pre", PRE}, {"post", POST}, ', '{{"pre", PRE}, {"post", POST}, {"sandwich", 3}, '),
        "codes Placement: Python has 4, .*; C\\+\\+ has 5, pre = 0, post = 1, sandwich = 3",
    ),
    "two fields of one type that changed places": (
        ("abi.h", "int64_t in, out;", "int64_t out, in;"),
        "structure Linear: .* in 32\\+8, out 40\\+8.*C\\+\\+ has .* in 40\\+8, out 32\\+8",
    ),
    "a field of another size": (
        ("abi.h", "const float *weight, *bias; };", "const float *weight, *bias; float eps; };"),
        "structure Norm: Python has 16 bytes.*C\\+\\+ has 24 bytes",
    ),
    "a field less": (
        ("abi_text.h", "FIELD(Call, cache_type), ", ""),
        "structure Call: .*cache_type",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_difference_is_an_error_that_names_it(change, tmp_path):
    replacement, message = CHANGES[change]
    copy_sources(tmp_path, replacement)
    with pytest.raises(RuntimeError, match=message) as caught:
        abi.check(compiled_text(tmp_path))
    assert not isinstance(caught.value, native.NativeUnavailable)


def test_a_structure_that_contains_the_changed_one_is_named_too(tmp_path):
    copy_sources(tmp_path, ("abi.h", "int32_t format, scaling, group;", "int32_t format, scaling, group, a, b;"))
    with pytest.raises(RuntimeError) as caught:
        abi.check(compiled_text(tmp_path))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "structure Linear", "structure Layer", "structure Model",
    ]  # fmt: skip


def test_python_and_cpp_that_differ_do_not_load_and_do_not_fall_back(tmp_path, monkeypatch):
    """The whole way: a changed header, compiled as the kernels are, but for the optimisation, which takes 15 s."""
    copy_sources(tmp_path, ("abi.h", "MAX_ROWS = 64;", "MAX_ROWS = 12;"))
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(compiler, "FLAGS", ["-O0" if flag == "-O3" else flag for flag in compiler.FLAGS])
    monkeypatch.setenv("TFGUIDE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RuntimeError, match="limit MAX_ROWS: Python has 64; C\\+\\+ has 12"):
        library.library.__wrapped__()
    monkeypatch.setattr(library, "library", library.library.__wrapped__)
    with pytest.raises(RuntimeError, match=r"abi\.py and the compiled abi\.h differ"):
        library.is_available()


def test_python_that_changed_is_noticed_as_well(monkeypatch):
    monkeypatch.setitem(abi.CODES, "Activation", tuple(reversed(abi.CODES["Activation"])))
    with pytest.raises(RuntimeError, match="codes Activation: Python has 6, geglu_tanh = 0"):
        abi.check(native.library())


def test_no_other_file_knows_how_cpp_has_it():
    """library.py loads a file, and machine.py asks the system; only abi.py has structures and codes."""
    for file in FOLDER.glob("*.py"):
        text = file.read_text()
        assert "import ctypes" not in text or file.name in ("abi.py", "library.py", "machine.py")
        assert ("Structure" in text or ".index(" in text) == (file.name == "abi.py"), file.name
