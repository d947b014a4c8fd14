"""Checks of arguments that several commands have."""

from __future__ import annotations

import os


def check_json_file(file: str | None) -> None:
    """Raises ValueError where `--json FILE` names a file in a folder that does not exist: before anything is timed."""
    if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
        raise ValueError(f"--json names a file in a folder that is not there: {file}")
