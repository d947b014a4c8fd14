"""A process that dies, hangs or computes something else ends all, with one clear error, and none is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.parallel.faulty import PATIENCE
from tests.support import heed_interrupts, refuses
from tfguide.cli import main
from tfguide.sharding.launch import launch, ranks
from tfguide.torch.parallel import joined

WAITING = "import sys; from tests.parallel.test_faults import run; sys.exit(run('waiting', sys.argv[1]))"


def run(what, folder, n=2):
    return launch(n, [sys.executable, "-m", "tests.parallel.faulty", what, str(folder)])


def left(folder):
    """The processes of a launch that still run; one that hangs is one of them."""
    found = [int(file.read_text()) for file in folder.glob("pid-*")]
    assert found, "no process began"
    return [pid for pid in found if is_running(pid)]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("killed", r"process 1 of 2 was ended by signal 9 \(SIGKILL\)"),
        ("stopped", "process 1 of 2 hangs: the others waited 20 s for its part"),
        ("stopped_reading", "process 1 of 2 hangs"),
        ("failed", "process 1 of 2 has failed: the disk is full"),
    ],
)
def test_one_fault_ends_all_with_one_error(what, message, tmp_path):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=message):
        run(what, tmp_path)
    assert time.monotonic() - start < 60  # with the start of the processes, on a machine that may be busy
    assert left(tmp_path) == []


@pytest.mark.parametrize("what", ["another_shape", "another_step"])
def test_processes_that_do_not_compute_the_same_end(what, tmp_path):
    """Which of the two is told from a process that died depends on the backend."""
    with pytest.raises(RuntimeError, match="process"):
        run(what, tmp_path)
    assert left(tmp_path) == []


def test_another_configuration_is_refused_by_all(tmp_path, capfd):
    assert run("another_model", tmp_path) == 2
    error = capfd.readouterr().err
    assert error == "tfguide: the model must be the same in all 2 processes: [1] differ from process 0\n"
    assert left(tmp_path) == []


def test_one_may_take_longer_than_the_others_wait(tmp_path):
    assert run("slow", tmp_path) == 0 and PATIENCE < 3


def test_the_processes_end_with_the_one_that_started_them(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path)])
    try:
        assert wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2, 60)
    finally:
        parent.kill()
        parent.wait()
    assert wait_for(lambda: left(tmp_path) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(number, tmp_path):
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts)
    assert wait_for(lambda: len(list(tmp_path.glob("pid-*"))) == 2, 60)
    parent.send_signal(number)
    assert parent.wait(30) == 128 + number and left(tmp_path) == []


def test_who_was_not_started_as_one_of_several_is_told_so():
    assert ranks() is None
    message = "this process is not one of several: start them with torchrun, or with --tensor-parallel"
    with refuses(RuntimeError, message), joined():
        pass


class TestCommand:
    def test_two_processes_write_what_one_writes(self, checkpoint, capfd):
        texts = []
        for more in ([], ["--tensor-parallel", "2"], ["--tensor-parallel", "3", "--dtype", "int8"]):
            arguments = ["--framework", "torch", "--plain", "--checkpoint", checkpoint, "--max-new-tokens", "6"]
            assert main(["generate", "--prompt", "abc", *arguments, *more]) == 0
            texts.append(capfd.readouterr().out)
        assert len(texts[0]) > 3 and texts[0] == texts[1]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["--tensor-parallel", "0"], "tfguide: --tensor-parallel must be at least 1, got 0"),
            (
                ["--tensor-parallel", "2", "--framework", "none"],
                "--tensor-parallel computes by PyTorch, got --framework none",
            ),
            (["--tensor-parallel", "4"], "4 processes cannot divide 6 heads and 3 key/value heads: choose 1, 2, 3, 6"),
        ],
    )
    def test_what_cannot_be_is_refused_once(self, more, message, checkpoint, capfd):
        assert main(["generate", "--prompt", "abc", "--checkpoint", checkpoint, *more]) == 2
        error = capfd.readouterr().err
        assert message in error and error.count("\n") == 1

    def test_torchrun_starts_them_as_well(self, checkpoint):
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            "-m",
            "tfguide",
        ]
        arguments = ["generate", "--prompt", "abc", "--checkpoint", checkpoint, "--max-new-tokens", "3"]
        done = subprocess.run(
            [*command, *arguments, "--tensor-parallel", "2"], capture_output=True, text=True, timeout=120,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0 and done.stdout.strip() and "3 new at" in done.stderr, done.stderr
