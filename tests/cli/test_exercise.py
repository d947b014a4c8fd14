"""`tfguide exercise` from the start to the next exercise, and what it says of files that do not end well."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import heed_interrupts
from tfguide import cli
from tfguide.exercises import find
from tfguide.exercises.running import check_file

RIGHT = {
    "numpy": "return np.arange(n_keys) <= np.arange(n_keys - n_queries, n_keys)[:, None]",
    "torch": "return torch.arange(n_keys) <= torch.arange(n_keys - n_queries, n_keys)[:, None]",
    "tensorflow": "return tf.range(n_keys) <= tf.range(n_keys - n_queries, n_keys)[:, None]",
}
MASK = find("causal-mask")


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("TFGUIDE_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, line):
    status = cli.main(["exercise", *line.split()])
    out, err = capsys.readouterr()
    return status, out, err


def solve(file, body):
    text = file.read_text()
    start = text.index("    raise NotImplementedError")
    file.write_text(f"{text[:start]}    {body}\n")


def test_from_the_start_to_the_next(desk, capsys):
    file = desk / "causal_mask_numpy.py"
    status, out, _ = run(capsys, "start causal-mask --framework numpy")
    assert status == 0 and out.startswith("The causal mask (chapter 2, grade 2 of 3") and file.name in out
    solve(file, RIGHT["numpy"].replace("<=", "<"))
    status, out, _ = run(capsys, "check causal-mask")  # the framework is the one of the start
    assert status == 1 and "Case 1 of 3:\n    n_queries = 3, n_keys = 3\n" in out
    assert "The first is at index (0, 0): expected True, got False." in out
    assert "A query does not see itself here" in out
    file.write_text(file.read_text().replace(" < ", " <= "))
    os.chdir(desk.parent)  # the file is found from anywhere
    status, out, _ = run(capsys, "check causal-mask")
    assert status == 0 and "tfguide/reference/attention.py" in out and "tfguide exercise start multi-head" in out
    assert "[x] 2    **  causal-mask          NumPy\n" in run(capsys, "status")[1]


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_in_a_framework(desk, capsys, framework):
    pytest.importorskip(framework)
    run(capsys, f"start causal-mask --framework {framework} --file mine.py")
    solve(desk / "mine.py", RIGHT[framework])
    status, out, _ = run(capsys, "check causal-mask")
    assert status == 0 and f"tfguide/{framework}/masks.py" in out, out


def test_hints_come_one_by_one_and_reset_begins_anew(desk, capsys):
    run(capsys, "start causal-mask --framework numpy")
    file = desk / "causal_mask_numpy.py"
    said = [run(capsys, "hint causal-mask")[1] for _ in range(5)]
    assert [text.split(":")[0] for text in said[:3]] == [f"Hint {i} of 3" for i in (1, 2, 3)]
    assert said[3] == said[4] and "tfguide exercise solution causal-mask" in said[4]
    starter = file.read_text()
    solve(file, "return 'mine'")
    status, _, err = run(capsys, "start causal-mask --framework numpy")
    assert status == 2 and "is there already, and may hold your work" in err and "'mine'" in file.read_text()
    for name in ("causal_mask_numpy.py.bak", "causal_mask_numpy.py.bak2"):
        status, out, _ = run(capsys, "reset causal-mask")
        assert status == 0 and f"What was in it is in {name}." in out and file.read_text() == starter
    assert "'mine'" in (desk / "causal_mask_numpy.py.bak").read_text()
    assert run(capsys, "hint causal-mask")[1] == said[0]
    assert "[.] 2    **  causal-mask" in run(capsys, "status")[1]


def test_the_solution_and_arithmetic(desk, capsys):
    assert "tfguide/reference/attention.py" in run(capsys, "solution causal-mask --framework numpy")[1]
    assert "return batch / bandwidth_seconds" in run(capsys, "solution tokens-per-second")[1]
    run(capsys, "start tokens-per-second --framework torch")
    assert "import numpy as np" in (desk / "tokens_per_second.py").read_text()


def test_mistakes_of_a_caller(capsys):
    for line, said in (
        ("check causal-mask --framework numpy", "causal_mask_numpy.py does not exist: `tfguide exercise start"),
        ("hint causal", "there is no exercise 'causal'; did you mean 'causal-mask'"),
        ("check causal-mask --seconds 0", "--seconds must be"),
    ):
        status, _, err = run(capsys, line)
        assert status == 2 and said in err, err
    with pytest.raises(SystemExit):
        cli.main(["exercise"])
    assert "task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while True:\n        pass", "It was not done after 1 seconds: an endless loop?\nIt was at line "),
        ("import sys; sys.exit(3)", "It ends the program: sys.exit(3).\nIt was at line 3: import sys; sys.exit(3)"),
        ("import os; os._exit(3)", "Its process ended by itself, with status 3, before the check was done: os._exit?"),
        ("import ctypes; ctypes.string_at(0)", "Its process crashed with SIGSEGV.\nIt was at line 3: import ctypes"),
        ("return n_queries +", "The file cannot be read: invalid syntax, line 3: return n_queries +"),
        ("return 1 / 0", "It raises ZeroDivisionError: division by zero\nIt was at line 3: return 1 / 0"),
        ("input()", "It raises EOFError"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_end_well(desk, body, said):
    file = desk / "mine.py"
    file.write_text(f"# a comment\ndef causal_mask(n_queries, n_keys):\n    {body}\n")
    outcome = check_file(MASK, file, "numpy", seconds=1.0 if "while" in body else 30.0)
    assert not outcome.passed and said in outcome.text, outcome.text


def test_a_file_without_the_function(desk):
    (desk / "mine.py").write_text("causal_mask = 3\n")
    assert (
        "mine.py has no function `causal_mask(n_queries, n_keys)`." in check_file(MASK, desk / "mine.py", "numpy").text
    )


def test_a_file_may_hold_more_than_the_function(desk):
    """A dataclass, a module beside it, a thread that does not end, and prints."""
    (desk / "beside.py").write_text("HELP = 1\n")
    code = f"""
from __future__ import annotations
import threading, time
from dataclasses import dataclass
import numpy as np
from beside import HELP

@dataclass
class Mask:
    n_queries: int

threading.Thread(target=time.sleep, args=(600,)).start()

def causal_mask(n_queries, n_keys):
    {RIGHT["numpy"]}
"""
    (desk / "mine.py").write_text(code)
    start = time.monotonic()
    assert check_file(MASK, desk / "mine.py", "numpy").passed
    assert time.monotonic() - start < 60


def test_watch_checks_again_when_the_file_changes_and_ends_with_success(desk, capsys):
    run(capsys, "start causal-mask --framework numpy")
    file = desk / "causal_mask_numpy.py"
    process = watch()
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(read_and_mend(process, file)))
    reader.start()
    reader.join(timeout=60)
    assert process.wait(timeout=60) == 0
    assert [line for line in seen if "not written yet" in line or "solved in NumPy" in line] == [
        "It is not written yet: write causal_mask here.\n", "causal-mask: solved in NumPy, on 3 cases.\n",
    ]  # fmt: skip


def watch():
    command = [sys.executable, "-m", "tfguide", "exercise", "check", "causal-mask", "--watch"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    heeds = None if sys.platform == "win32" else heed_interrupts
    return subprocess.Popen(command, start_new_session=True, preexec_fn=heeds, **pipes)


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")
def test_an_interrupt_ends_the_watch(desk, capsys):
    run(capsys, "start causal-mask --framework numpy")
    process = watch()
    for line in process.stdout:
        if line.startswith("Waiting for a change of causal_mask_numpy.py; Ctrl-C ends."):
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130 and process.stderr.read() == "\n"


def read_and_mend(process, file: Path):
    for line in process.stdout:
        yield line
        if line.startswith("Waiting for a change"):
            time.sleep(0.05)
            new = file.with_suffix(".new")  # as an editor that replaces a file
            new.write_text("import numpy as np\n\n\ndef causal_mask(n_queries, n_keys):\n    " + RIGHT["numpy"] + "\n")
            os.replace(new, file)
