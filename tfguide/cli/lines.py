"""The lines that a command reads from the standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


def read_lines(prompt: str, hint: str = "") -> Iterator[str]:
    """The lines of the standard input until it ends. On a terminal, the arrow keys bring earlier ones back.

    prompt: stands before each line on a terminal. hint: what Ctrl-C prints there, to go on; without it, it is raised.
    """
    terminal = sys.stdin.isatty()
    if terminal:
        with contextlib.suppress(ImportError):  # not on every system
            import readline  # noqa: F401  `input` uses it once it is imported
    while True:
        try:
            line = input(prompt if terminal else "")
        except EOFError:
            if terminal:
                print()
            return
        except KeyboardInterrupt:
            if not terminal or not hint:
                raise
            print(f"\n{hint}", file=sys.stderr)
            continue
        yield line
