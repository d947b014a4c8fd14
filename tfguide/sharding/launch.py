"""Start the processes that compute a model together, watch them, and end all of them when one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfguide.checks.values import check_count
from tfguide.native.machine import cores

STORE = "TFGUIDE_STORE"  # the file by which the processes that `launch` starts find each other
RANK, SIZE = "RANK", "WORLD_SIZE"  # as torchrun names them
LOST = 75  # the status of a process that waits in vain for another one, which knows better what happened
SILENCE = 20.0  # seconds without an answer after which a process counts as lost
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TFGUIDE_THREADS": "1"}  # an environment in which a process computes with one
_GRACE = 5.0  # seconds that the others have to notice a failure themselves
_TICK = 0.05


def ranks() -> tuple[int, int] | None:
    """This process's rank and their number, where `launch` or torchrun has started it; else None."""
    if RANK not in os.environ or SIZE not in os.environ:
        return None
    return int(os.environ[RANK]), int(os.environ[SIZE])


def launch(n: int, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command in n processes that compute together, and wait for them: the exit status of process 0.

    command: its program first. environment: what the processes get beside this one's. Process 0 has this process's
    output and errors; of the others only the error that ends them is shown. When one fails, is killed or hangs, all
    are ended, and an exception says which and why. They end as well if this process does, whatever ends it: their
    standard input is a pipe from it. SIGINT and SIGTERM are passed on to process 0, and end the others with it.

    Raises RuntimeError that names the process, OSError where the command cannot be started.
    """
    check_count("processes", n)
    with tempfile.TemporaryDirectory(prefix="tfguide-") as folder:
        started = _Processes(Path(folder), [str(word) for word in command], n, environment or {})
        with started, _passing_on(started):
            return started.wait()


def end_with_parent() -> None:
    """End this process as soon as the one that launched it has ended: its standard input is closed then."""

    def watch():
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1):  # not by sys.stdin, whose lock a thread may not hold when Python ends
                pass
        os.kill(os.getpid(), signal.SIGKILL)  # at once, whatever the process is doing

    if STORE in os.environ:
        threading.Thread(target=watch, name="tfguide parent", daemon=True).start()


class _Processes:
    """The processes of a launch."""

    def __init__(self, folder, command, n, environment):
        self.folder, self.n, self.passed_on = folder, n, 0
        self.running: list[subprocess.Popen] = []
        threads = str(max(1, cores() // n))
        shared = {
            "OMP_NUM_THREADS": threads, "TFGUIDE_THREADS": threads, "GLOO_SOCKET_IFNAME": _loopback(),
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }  # fmt: skip
        for rank in range(n):
            own = {STORE: str(folder / "store"), RANK: str(rank), SIZE: str(n), "LOCAL_RANK": str(rank)}
            with contextlib.ExitStack() as stack:
                hidden = stack.enter_context(open(self._errors(rank), "wb")) if rank else None
                self.running.append(subprocess.Popen(
                    command, env=shared | dict(os.environ) | own | environment, stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL if rank else None, stderr=hidden,
                    start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which passes it on
                ))  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.running:
            if process.poll() is None:
                process.kill()
        for process in self.running:
            process.wait()
            process.stdin.close()

    def wait(self) -> int:
        """Wait until all have ended well, or one has not. Raises RuntimeError."""
        while (found := [process.poll() for process in self.running]) and None in found:
            if any(found) or found[0] == 0:
                break
            time.sleep(_TICK)
        self._let_end()
        found = [process.poll() for process in self.running]
        if self.passed_on and found[0] != 0:
            return 128 + self.passed_on
        failed = [rank for rank, status in enumerate(found) if status not in (None, 0, LOST)]
        if found[0] is not None and found[0] >= 0 and found[0] != LOST and failed[:1] in ([], [0]):
            return found[0]  # it has done its work, or has said why not
        if failed:
            raise RuntimeError(f"process {failed[0]} of {self.n} {self._why(failed[0], found[failed[0]])}")
        silent = [rank for rank, status in enumerate(found) if status is None]
        if silent:
            raise RuntimeError(f"process {silent[0]} of {self.n} hangs: the others waited {SILENCE:g} s for its part")
        raise RuntimeError(f"the {self.n} processes do not compute the same: one waits for what no other sends")

    def pass_on(self, number: int) -> None:
        """Send a signal to process 0, whose end ends the others."""
        self.passed_on = number
        self.running[0].send_signal(number)

    def _let_end(self):
        end = time.monotonic() + _GRACE
        while time.monotonic() < end and any(process.poll() is None for process in self.running):
            time.sleep(_TICK)

    def _errors(self, rank):
        return self.folder / f"errors-{rank}"

    def _why(self, rank, status):
        if status < 0:
            return f"was ended by signal {-status} ({signal.Signals(-status).name})"
        said = self._errors(rank).read_text(errors="replace").strip() if rank else ""
        return f"has failed: {said.splitlines()[-1].removeprefix('tfguide: ') if said else f'status {status}'}"


@contextlib.contextmanager
def _passing_on(started: _Processes) -> Iterator[None]:
    """Pass signals on within the block, where this thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, frame: started.pass_on(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _loopback() -> str:
    """The name of the network interface that stays inside this machine."""
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])
