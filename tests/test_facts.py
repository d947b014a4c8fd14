"""What is kept about a file holds until the file changes, and nothing that is not whole is believed."""

import os
import time
from pathlib import Path

import pytest

from tfguide import facts
from tfguide.native import compiler
from tfguide.tasks import smollm


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFGUIDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def later(monkeypatch):
    """The time at which a file that the test writes has not changed for an hour."""
    hour = time.time() + 3600
    monkeypatch.setattr(facts.time, "time", lambda: hour)


@pytest.fixture
def file(tmp_path, later):
    path = tmp_path / "file"
    path.write_text("first")
    return path


def test_a_fact_is_recalled_until_the_file_changes(file, cache):
    key = facts.key_of([file], "x")
    assert facts.recall("fact", key) is None
    facts.keep("fact", key, "found\nout")
    assert facts.recall("fact", key) == "found\nout" and facts.recall("other", key) is None
    assert facts.key_of([file], "x") == key != facts.key_of([file], "y")
    times = file.stat()
    file.write_text("other")  # of the same size, and then of the same time
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert facts.key_of([file], "x") != key


def test_a_link_is_the_file_that_it_leads_to(file, cache):
    link, other = file.with_name("link"), file.with_name("other")
    other.write_text("first")
    link.symlink_to(file)
    key = facts.key_of([link])
    assert key == facts.key_of([file])
    link.unlink()
    link.symlink_to(other)
    assert facts.key_of([link]) not in (key, None)


def test_a_file_that_changed_just_now_or_is_not_there_has_no_key(tmp_path, cache):
    (tmp_path / "new").write_text("x")
    assert facts.key_of([tmp_path / "new"]) is None and facts.key_of([tmp_path / "none"]) is None
    facts.keep("fact", None, "x")
    assert facts.recall("fact", None) is None and not cache.exists()


@pytest.mark.parametrize("spoil", [lambda kept: kept[:-1], lambda kept: b"", lambda kept: b"\xff" + kept,
                                   lambda kept: kept.replace(b"out", b"off")])  # fmt: skip
def test_what_is_not_whole_is_not_believed(spoil, file, cache):
    key = facts.key_of([file])
    facts.keep("fact", key, "found out")
    (kept,) = cache.iterdir()
    kept.write_bytes(spoil(kept.read_bytes()))
    assert facts.recall("fact", key) is None
    facts.keep("fact", key, "found out")
    assert facts.recall("fact", key) == "found out"


def test_a_folder_that_cannot_be_written_changes_nothing(file, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("x")
    monkeypatch.setenv("TFGUIDE_CACHE", str(tmp_path / "taken"))
    facts.keep("fact", facts.key_of([file]), "x")
    assert facts.recall("fact", facts.key_of([file])) is None


def test_a_compiler_that_is_a_program_is_asked_once(cache, monkeypatch):
    command = compiler.find_compiler()
    first = compiler.describe_compiler(command, compiler.NATIVE)
    assert "__VERSION__" in first
    (kept,) = cache.iterdir()
    assert kept.name.startswith("compiler-")
    with monkeypatch.context() as patched:
        patched.setattr(compiler.subprocess, "run", None)
        assert compiler.describe_compiler(command, compiler.NATIVE) == first
    for name, value in (("CPATH", "/nonexistent"), ("CPLUS_INCLUDE_PATH", "/nonexistent")):
        monkeypatch.setenv(name, value)
        compiler.describe_compiler(command, compiler.NATIVE)
    assert len(list(cache.iterdir())) == 3
    assert compiler.describe_compiler(command, machine_level()) != first


def machine_level():
    return compiler.levels()[-1]


def test_a_compiler_that_is_a_script_is_always_asked(cache, tmp_path):
    """It may call another compiler tomorrow."""
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\necho one\n")
    script.chmod(0o755)
    os.utime(script, (0, 0))
    assert compiler.describe_compiler([str(script)], compiler.NATIVE).splitlines() == ["one", "", "one"]
    assert not cache.exists()


def test_the_sha256_of_the_model_is_computed_once(later, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(smollm, "N_BYTES", 5)
    monkeypatch.setattr(smollm, "SHA256", smollm.hashlib.sha256(b"model").hexdigest())
    path = tmp_path / "model.gguf"
    path.write_bytes(b"model")
    assert smollm.file(path) == path
    with monkeypatch.context() as patched:
        patched.setattr(smollm.hashlib, "file_digest", None)
        assert smollm.file(path) == path
    times = path.stat()
    path.write_bytes(b"madel")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    for _ in range(2):  # also the second time
        with pytest.raises(ValueError, match="expected the sha256"):
            smollm.file(path)


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TFGUIDE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert facts.cache_folder() == tmp_path / "tfguide"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert facts.cache_folder() is None and facts.recall("fact", "x") is None
