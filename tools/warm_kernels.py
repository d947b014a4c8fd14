"""Kernels that are forks of one process, which has imported both frameworks: a page does not wait for its imports.

Linux only: elsewhere what the frameworks' libraries do at their import does not survive a fork.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import uuid
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

MODULES = ("ipykernel.kernelapp", "IPython.core.pylabtools", "matplotlib.pyplot", "tfguide.torch", "tfguide.tensorflow")


_CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else None)
_CONTEXT.set_forkserver_preload(list(MODULES))


class WarmKernelManager(AsyncKernelManager):
    """The manager of a kernel that is forked; the process that all are forks of starts with the first one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kernel_id = str(uuid.uuid4())
        self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)


class _Provisioner(LocalProvisioner):
    async def launch_kernel(self, cmd: list[str], **options: Any) -> dict[str, Any]:
        self.cwd = options.get("cwd", os.getcwd())
        self.process = _Fork(self.parent.connection_file, os.fspath(self.cwd))
        self.pid = self.pgid = self.process.pid  # it is the first of its group
        return self.connection_info


class _Fork:
    """A forked kernel, with the part of `subprocess.Popen` that a provisioner calls."""

    stdin = stdout = stderr = None

    def __init__(self, connection_file: str, folder: str):
        watched, self._held = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_be_a_kernel, args=(connection_file, folder, watched))
        self._process.start()
        watched.close()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _be_a_kernel(connection_file: str, folder: str, watched: Connection) -> None:
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # each kernel warns of its own port; a page that fails is executed again, aloud
        os.dup2(nothing, number)
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = ["", *(entry for entry in sys.path if entry not in ("", here))]
    IPKernelApp.launch_instance(argv=["-f", connection_file])


def _end_with(watched: Connection) -> None:
    """End this process and what it has started when the process that holds the other end of the pipe is gone."""
    with contextlib.suppress(EOFError):
        watched.recv_bytes()
    os.killpg(os.getpid(), signal.SIGKILL)
