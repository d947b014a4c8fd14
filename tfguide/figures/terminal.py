"""What the commands of `tfguide` print, shown on a page."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence


def tfguide(command: str, lines: int | Sequence[str] | None = None, *, may_fail: bool = False) -> list[str]:
    """Run a command in a process of its own, print its lines, its messages after them, and return what was printed.

    command: what stands behind `tfguide` in a shell; lines: how many of the first lines to keep, or words one of which
    a kept line has (default: all lines). Raises RuntimeError, with all messages, where the command fails, unless
    `may_fail`.
    """
    done = subprocess.run([sys.executable, "-m", "tfguide.cli", *shlex.split(command)], capture_output=True, text=True)
    if done.returncode and not may_fail:
        raise RuntimeError(f"tfguide {command} ended with status {done.returncode}:\n{done.stderr}")
    said = [line for line in done.stderr.splitlines() if line.startswith("tfguide:") or "tokens read in" in line]
    shown = [*done.stdout.rstrip().splitlines(), *said]
    if isinstance(lines, int):
        shown = shown[:lines]
    elif lines is not None:
        shown = [line for line in shown if any(word in line for word in lines)]
    if shown:
        print("\n".join(shown))
    return shown
