"""The file of the kernels: loaded whole or built again, in any folder, after any truncation."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from tfguide import native

library = import_module("tfguide.native.library")
pytestmark = pytest.mark.skipif(not native.is_available(), reason="there is no C++ compiler")
ROOT = Path(__file__).parents[2]
USE = "from tfguide import native; print(native.library()._name)"
# A compiler that takes no time: it gives out what the real one made.
COMPILER = """#!/bin/sh
for last; do :; done
case "$*" in
    *" -E "*|*--version) echo "quick" ;;
    *) touch "$(dirname "$last")/begun"; sleep ${SLOW:-0}; cp "$COMPILED" "$last" || exit 1; echo run >> "$RUNS" ;;
esac
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The quick compiler; the lines of the file that is returned say how often it ran."""
    (tmp_path / "compiler").write_text(COMPILER)
    (tmp_path / "compiler").chmod(0o755)
    runs = tmp_path / "runs"
    runs.touch()
    for name, value in dict(CXX=tmp_path / "compiler", COMPILED=native.library()._name, RUNS=runs).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TFGUIDE_CACHE", str(tmp_path / "cache"))
    return runs


@pytest.fixture
def cache(tools):
    """A folder with the kernels in it."""
    file = load()
    assert list(file.parent.iterdir()) == [file]
    tools.write_text("")
    return file.parent


def start(code=USE, **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def load(**environment):
    """Load the kernels in a process of its own: the file that it loaded."""
    process = start(**environment)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return Path(out.strip())


def cut(n):
    return lambda file: file.write_bytes(file.read_bytes()[:n])


def half(file):
    cut(file.stat().st_size // 2)(file)


def one_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


def a_folder(file):
    file.unlink()
    file.mkdir()
    (file / "something").write_text("x")


def a_link_to_nothing(file):
    file.unlink()
    file.symlink_to("nothing")


def without_its_last_page(file):
    cut(file.stat().st_size - 4096)(file)


SPOILED = [cut(0), cut(100), half, without_its_last_page, one_bit, a_folder, a_link_to_nothing,
           lambda file: file.write_bytes(os.urandom(5000))]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_not_whole_is_built_again(spoil, cache, tools):
    (file,) = cache.iterdir()
    content = file.read_bytes()
    spoil(file)
    assert load() == file and file.read_bytes() == content
    assert list(cache.iterdir()) == [file] and tools.read_text() == "run\n"


def test_a_whole_file_is_loaded_without_a_compile(cache, tools):
    (file,) = cache.iterdir()
    assert load() == file and tools.read_text() == ""


def test_a_whole_file_beside_one_that_is_not(cache, tools):
    (file,) = cache.iterdir()
    half(Path(shutil.copy(file, file.with_name(file.stem.rpartition("-")[0] + "-0123456789abcdef.so"))))
    assert load() == file and tools.read_text() == ""


def test_a_compile_that_fails_leaves_nothing_that_could_be_loaded(cache, monkeypatch):
    half(next(cache.iterdir()))
    monkeypatch.setenv("COMPILED", "/nonexistent")
    with pytest.raises(native.NativeUnavailable, match="failed on the kernels"):
        library.library.__wrapped__()
    assert not any(library._is_whole(path) for path in cache.iterdir()) and len(list(cache.iterdir())) == 1


def test_a_file_that_cannot_be_read_is_built_again(cache, monkeypatch):
    """As if it were another user's: this may run as root, who reads everything."""
    (file,) = cache.iterdir()
    read = Path.read_bytes

    def refuse(path):
        if path == file and refuse.on:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    refuse.on = True
    monkeypatch.setattr(Path, "read_bytes", refuse)
    compiled = library._compile

    def compile_once(*arguments):
        result = compiled(*arguments)
        refuse.on = False
        return result

    monkeypatch.setattr(library, "_compile", compile_once)
    assert Path(library.library.__wrapped__()._name) == file
    assert not refuse.on and list(cache.iterdir()) == [file]


def read_only(monkeypatch, folder):
    """As on a file system that is mounted read-only, for root too."""
    make = library.tempfile.TemporaryFile

    def refuse(*arguments, dir=None, **options):
        if Path(dir) == folder:
            raise OSError(30, "Read-only file system", str(dir))
        return make(*arguments, dir=dir, **options)

    monkeypatch.setattr(library.tempfile, "TemporaryFile", refuse)


def test_a_folder_that_cannot_be_written_but_holds_the_kernels_serves(cache, monkeypatch):
    read_only(monkeypatch, cache)
    (file,) = cache.iterdir()
    assert Path(library.library.__wrapped__()._name) == file


def test_a_named_folder_that_cannot_be_written_and_holds_none_is_an_error(cache, monkeypatch):
    read_only(monkeypatch, cache)
    half(next(cache.iterdir()))
    with pytest.raises(native.NativeUnavailable, match="TFGUIDE_CACHE names a folder that cannot be written"):
        library.library.__wrapped__()


def test_without_a_home_that_can_be_written_there_is_one_folder_for_each_user(tmp_path, monkeypatch, cache):
    """The second process finds what the first one built, and nobody else can have put it there."""
    monkeypatch.delenv("TFGUIDE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(library.tempfile, "tempdir", str(tmp_path))
    folder = library._writable_folder()
    assert folder == library._writable_folder() == tmp_path / f"tfguide-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert library._writable_folder() not in (folder, tmp_path)
    folder.rmdir()
    folder.symlink_to(cache)
    assert library._writable_folder() not in (folder, cache)


def test_two_processes_at_once(tools, tmp_path):
    processes = [start(SLOW="0.5") for _ in "ab"]
    loaded = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert loaded == {str(path) for path in (tmp_path / "cache").iterdir()}
    assert tools.read_text() == "run\n" * 2


def test_a_killed_compile_leaves_nothing_for_long(tools, tmp_path):
    process, cache = start(SLOW="60"), tmp_path / "cache"
    until = time.monotonic() + 60
    while not list(cache.glob(".kernels-*/begun")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # the compiler as well
    process.communicate()
    assert [path.name[:9] for path in cache.iterdir()] == [".kernels-"]
    loaded = load()
    assert list(cache.iterdir()) == [loaded]
