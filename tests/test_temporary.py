"""A killed process leaves hidden folders, and the next process removes them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tfguide import temporary
from tfguide.temporary import beside, hidden_folder, remove_orphans, write_file

pytestmark = pytest.mark.skipif(temporary.fcntl is None, reason="without locks nothing is removed")
ROOT = Path(__file__).parents[1]


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def start(code, *arguments):
    """A process that prints a line when it has come to its point."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "here\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


HOLD = """
import sys, time
from pathlib import Path
from tfguide.temporary import hidden_folder
with hidden_folder(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "half").write_text("x")
    print("here", flush=True)
    time.sleep(60)
"""


def test_a_folder_goes_with_its_block(tmp_path):
    with hidden_folder(tmp_path, "m") as folder:
        (folder / "file").write_text("x")
        assert names(tmp_path) == [folder.name] and folder.name.startswith(".m.new-")
    assert names(tmp_path) == []


def test_the_living_keep_theirs_and_the_dead_do_not(tmp_path):
    one, two = start(HOLD, tmp_path, "m"), start(HOLD, tmp_path, "m")
    other = start(HOLD, tmp_path, "m.new")
    assert len(names(tmp_path)) == 3
    kill(one)
    remove_orphans(tmp_path, "m")
    assert len(names(tmp_path)) == 2
    kill(other)
    remove_orphans(tmp_path, "m")
    assert len(names(tmp_path)) == 2  # another name's
    remove_orphans(tmp_path, "m.new")
    assert len(names(tmp_path)) == 1
    kill(two)
    remove_orphans(tmp_path, "m")
    assert names(tmp_path) == []


def test_threads_of_one_process_keep_theirs(tmp_path):
    with hidden_folder(tmp_path, "m") as folder:
        threads = [threading.Thread(target=remove_orphans, args=(tmp_path, "m", True)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert folder.is_dir()


@pytest.mark.parametrize("mine", [("host", "boot"), ("host", ""), ("", "boot")])
@pytest.mark.parametrize(
    "theirs", [("host", "boot"), ("other", "boot"), ("host", "other"), ("other", "other"), ("", "")]
)
def test_what_another_machine_wrote_is_left_alone(mine, theirs, tmp_path, monkeypatch):
    codes = {"host": "aa", "boot": "bb", "other": "cc", "": ""}
    monkeypatch.setattr(temporary, "_machine", lambda: tuple(codes[word] for word in mine))
    (tmp_path / f".m.new-{codes[theirs[0]]}-{codes[theirs[1]]}-01234567").mkdir()
    remove_orphans(tmp_path, "m")
    same = any(a and a == b for a, b in zip(mine, theirs, strict=True))
    assert (names(tmp_path) == []) == same


@pytest.mark.parametrize(
    "name", [".m.new-0123", ".m.new-x-y-01234567", ".n.new-{}-01234567", "m.new-{}-01234567", ".m.tmp-{}-01234567"]
)
def test_what_is_not_ours_stays(name, tmp_path):
    (tmp_path / name.format("-".join(temporary._machine()))).mkdir()
    remove_orphans(tmp_path, "m", replaced=True)
    assert len(names(tmp_path)) == 1


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("no locks available")

    kill(start(HOLD, tmp_path, "m"))
    monkeypatch.setattr(temporary.fcntl, "flock", refuse)
    with hidden_folder(tmp_path, "m"):
        remove_orphans(tmp_path, "m")
        assert len(names(tmp_path)) == 2
    monkeypatch.setattr(temporary, "fcntl", None)
    with hidden_folder(tmp_path, "m"):
        remove_orphans(tmp_path, "m")
        assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("when", ["before it is opened", "before it is locked"])
def test_a_folder_that_is_taken_for_an_orphan_is_made_again(when, tmp_path, monkeypatch):
    """Another process looks at the worst moment."""
    name, target = ("open", os) if when == "before it is opened" else ("flock", temporary.fcntl)
    works, taken = getattr(target, name), []

    def late(*arguments):
        if not taken:
            taken.append(names(tmp_path))
            monkeypatch.setattr(target, name, works)
            remove_orphans(tmp_path, "m")
            assert names(tmp_path) == []
            monkeypatch.setattr(target, name, late)
        return works(*arguments)

    monkeypatch.setattr(target, name, late)
    with hidden_folder(tmp_path, "m") as folder:
        assert folder.is_dir() and taken != [[folder.name]] and names(tmp_path) == [folder.name]


def test_a_pair_between_two_renames_stays_until_there_is_a_new_one(tmp_path):
    kill(start(HOLD, tmp_path, "m"))
    (new,) = tmp_path.iterdir()
    beside(new).mkdir()
    remove_orphans(tmp_path, "m")
    assert len(names(tmp_path)) == 2
    remove_orphans(tmp_path, "m", replaced=True)
    assert names(tmp_path) == []


def test_what_a_living_process_has_moved_aside_stays(tmp_path):
    with hidden_folder(tmp_path, "m") as folder:
        beside(folder).mkdir()
        remove_orphans(tmp_path, "m", replaced=True)
        assert beside(folder).is_dir()


def test_many_processes_at_once(tmp_path):
    """Each writes, removes what it takes for orphans, and finds its own folder whole."""
    code = """
import sys
from pathlib import Path
from tfguide.temporary import hidden_folder, remove_orphans
print("here", flush=True)
for i in range(200):
    remove_orphans(Path(sys.argv[1]), "m", replaced=i % 2 == 0)
    with hidden_folder(Path(sys.argv[1]), "m") as folder:
        (folder / "file").write_text("x")
        remove_orphans(Path(sys.argv[1]), "m")
        assert (folder / "file").read_text() == "x"
"""
    processes = [start(code, tmp_path) for _ in range(4)]
    time.sleep(0.3)
    kill(processes[0])
    for process in processes[1:]:
        assert process.wait(60) == 0
        process.stdout.close()
    remove_orphans(tmp_path, "m")
    assert names(tmp_path) == []


class TestFiles:
    def test_a_file_is_replaced_whole(self, tmp_path):
        file = tmp_path / "result.json"
        write_file(file, "one")
        file.chmod(0o640)
        write_file(str(file), "zwei ü")
        assert file.read_text(encoding="utf-8") == "zwei ü" and file.stat().st_mode & 0o777 == 0o640
        assert names(tmp_path) == ["result.json"]

    def test_permissions_are_those_of_other_files(self, tmp_path):
        (tmp_path / "plain").touch()
        write_file(tmp_path / "result.json", "one")
        assert (tmp_path / "result.json").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "at").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "at" / "result.json")
        write_file(tmp_path / "link", "one")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "at" / "result.json").read_text() == "one"

    def test_a_pipe_is_written_to(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        received = []
        reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_text()))
        reader.start()
        write_file(tmp_path / "pipe", "one")
        reader.join(10)
        assert received == ["one"] and names(tmp_path) == ["pipe"]

    def test_a_kill_while_writing_leaves_the_old_file_and_the_next_write_cleans_up(self, tmp_path):
        code = """
import os, sys, time
from tfguide import temporary
temporary.sync = lambda path: (print("here", flush=True), time.sleep(60))
temporary.write_file(sys.argv[1], "two")
"""
        file = tmp_path / "result.json"
        write_file(file, "one")
        kill(start(code, file))
        assert file.read_text() == "one" and len(names(tmp_path)) == 2
        write_file(file, "three")
        assert file.read_text() == "three" and names(tmp_path) == ["result.json"]
