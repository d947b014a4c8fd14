"""The progress is one file: whole, kept apart from others, refused where it is broken, and safe from two writers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tfguide.exercises.progress import changing, progress_file, read_progress


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("TFGUIDE_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "exercises.json"


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TFGUIDE_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert progress_file() == tmp_path / "tfguide" / "exercises.json"
    for relative in ("", "here"):  # the standard says that such a path is to be passed over
        monkeypatch.setenv("XDG_DATA_HOME", relative)
        assert progress_file() == Path.home() / ".local/share/tfguide/exercises.json"


def test_what_is_written_is_read(file):
    assert read_progress() == {}
    with changing("causal-mask") as entry:
        entry["hints"] = 2
        entry["solved"]["torch"] = "2026-01-02"
    with changing("kv-cache"):
        pass
    assert read_progress()["causal-mask"] == {"files": {}, "hints": 2, "solved": {"torch": "2026-01-02"}}
    assert list(file.parent.glob(".*")) == []


def test_nothing_is_written_where_something_fails(file):
    with changing("causal-mask") as entry:
        entry["hints"] = 1
    with pytest.raises(RuntimeError), changing("causal-mask") as entry:
        entry["hints"] = 2
        raise RuntimeError
    assert read_progress()["causal-mask"]["hints"] == 1


@pytest.mark.parametrize(
    "broken",
    [
        '{"version": 1, "exerc',
        "[]",
        '{"version": 2, "exercises": {}}',
        '{"version": 1, "exercises": {"a": 1}}',
        '{"version": 1, "exercises": {"a": {"solved": []}}}',
        b"\xff\xfe",
    ],
)
def test_a_broken_file_is_named_and_stays(file, broken):
    file.parent.mkdir()
    content = broken if isinstance(broken, bytes) else broken.encode()
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"exercises\.json cannot be read: .*mend it, or move it away"):
        read_progress()
    with pytest.raises(ValueError, match="It stays as it is"), changing("causal-mask"):
        pass
    assert file.read_bytes() == content


def test_what_another_version_of_the_package_knows_is_kept(file):
    file.parent.mkdir()
    other = {"solved": {"numpy": "2026-01-02"}, "more": 1}
    file.write_text(json.dumps({"version": 1, "exercises": {"of-tomorrow": other}}))
    with changing("causal-mask"):
        pass
    assert read_progress()["of-tomorrow"] == other


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_writers_at_once_lose_nothing(file):
    code = """
import sys
from tfguide.exercises.progress import changing
for i in range(9):
    with changing(f"{sys.argv[1]}-{i}") as entry:
        entry["hints"] = i
    with changing("both") as entry:
        entry["hints"] += 1
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    progress = read_progress()
    assert progress["both"]["hints"] == 18
    assert all(progress[f"{name}-{i}"]["hints"] == i for name in "ab" for i in range(9))
