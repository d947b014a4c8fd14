"""Checks of arguments that several commands have."""

from __future__ import annotations

import os
from importlib.util import find_spec

PLOTS = (".svg", ".png", ".pdf")


def check_json_file(file: str | None) -> None:
    """Raises ValueError where `--json FILE` names a file in a folder that does not exist: before anything is timed."""
    _check_folder("--json", file)


def check_plot_file(file: str | None) -> None:
    """Raises ValueError for a `--plot FILE` that cannot be written, ImportError without matplotlib."""
    if file is None:
        return
    _check_folder("--plot", file)
    if os.path.splitext(file)[1] not in PLOTS:
        raise ValueError(f"--plot must name a file that ends in one of {', '.join(PLOTS)}, got {file}")
    if find_spec("matplotlib") is None:
        raise ImportError("--plot needs matplotlib: pip install matplotlib")


def _check_folder(option, file):
    if file and not os.path.isdir(os.path.dirname(os.path.abspath(file))):
        raise ValueError(f"{option} names a file in a folder that is not there: {file}")


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
