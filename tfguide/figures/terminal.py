"""What the commands of `tfguide` print, shown on a page."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence


def tfguide(
    command: str,
    lines: int | Sequence[str] | None = None,
    *,
    typed: Sequence[str] | None = None,
    may_fail: bool = False,
) -> list[str]:
    """Run a command in a process of its own, print its lines, its messages after them, and return what was printed.

    command: what stands behind `tfguide` in a shell; lines: how many of the first lines to keep, or words one of which
    a kept line has (default: all lines). typed: the lines that it reads, as a user types them; its messages then stand
    where they came. Raises RuntimeError, with all messages, where the command fails, unless `may_fail`.
    """
    called = [sys.executable, "-m", "tfguide.cli", *shlex.split(command)]
    if typed is None:
        done = subprocess.run(called, capture_output=True, text=True)
    else:
        given = "".join(f"{line}\n" for line in typed)
        done = subprocess.run(called, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode and not may_fail:
        messages = done.stdout if done.stderr is None else done.stderr
        raise RuntimeError(f"tfguide {command} ended with status {done.returncode}:\n{messages}")
    said = [
        line for line in (done.stderr or "").splitlines() if line.startswith("tfguide:") or "tokens read in" in line
    ]
    shown = [*done.stdout.rstrip().splitlines(), *said]
    if isinstance(lines, int):
        shown = shown[:lines]
    elif lines is not None:
        shown = [line for line in shown if any(word in line for word in lines)]
    if shown:
        print("\n".join(shown))
    return shown


class Running:
    """A server of `tfguide` that runs beside the page. command: what stands behind `tfguide`, with `--port 0`.

    address: where it answers, which is not printed: the port is a free one. Raises RuntimeError, with all messages,
    where it ends instead.
    """

    def __init__(self, command: str):
        called = [sys.executable, "-m", "tfguide.cli", *shlex.split(command)]
        self._process = subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self._process.stdout.readline()
        if " answers at " not in line:
            raise RuntimeError(f"tfguide {command} does not answer:\n{self._process.communicate()[1]}")
        self.address = line.split(" answers at ")[1].split()[0]

    def stop(self) -> int:
        """Let it end, as Ctrl-C does; its status."""
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=60)
        return self._process.returncode
