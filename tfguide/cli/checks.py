"""Checks of arguments that several commands have."""

from __future__ import annotations

import os


def check_json_file(file: str | None) -> None:
    """Raises ValueError where `--json FILE` names a file in a folder that does not exist: before anything is timed."""
    if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
        raise ValueError(f"--json names a file in a folder that is not there: {file}")


def use_llama_cpp(folder: str | None, peers: bool) -> None:
    """Let `--llama-cpp FOLDER` name the llama.cpp that is measured, in this process and in those that it starts.

    Raises ValueError without `--peers`, and for a folder without llama_cpp.
    """
    from tfguide.bench.llama import FOLDER, has_llama_cpp

    if folder is None:
        return
    os.environ[FOLDER] = folder
    if not peers:
        raise ValueError("--llama-cpp names a peer: add --peers")
    if not has_llama_cpp():
        raise ValueError(f"--llama-cpp names a folder without llama_cpp: {folder}")
