"""The option of the commands that several processes can run together, `--tensor-parallel`, and what it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfguide.checkpoints import GgufFile
from tfguide.checks.values import check_count
from tfguide.loading import weights_of
from tfguide.sharding.launch import launch, ranks


def add_parallel_option(parser: argparse.ArgumentParser) -> None:
    """Add how many processes compute the model together."""
    parser.add_argument(
        "--tensor-parallel", type=int, metavar="N",
        help="let N processes compute the model together, each with its own heads, hidden features and words, by "
        "PyTorch; N processes of this machine are started, or torchrun has started them",
    )  # fmt: skip


def in_processes(options: argparse.Namespace, work: Callable[[Any], int]) -> int:
    """Do the work of a command in the processes that `--tensor-parallel` asks for: the exit status.

    work: called in each of them with the group of all. This process starts them, or is one of them already. Raises
    ValueError for a number that is not torchrun's, and for options that several processes do not have; ImportError
    without PyTorch; RuntimeError as `launch`.
    """
    n = check_count("--tensor-parallel", options.tensor_parallel)
    if options.framework not in (None, "torch"):
        raise ValueError(f"--tensor-parallel computes by PyTorch, got --framework {options.framework}")
    found = ranks()
    if found is None:
        return launch(n, [sys.executable, "-m", "tfguide", *options.arguments])
    if found[1] != n:
        raise ValueError(f"--tensor-parallel {n}, but {found[1]} processes were started")
    from tfguide.torch.parallel.joining import joined

    with joined() as group:
        return work(group)


def load_shared(options: argparse.Namespace, checkpoint: Path | GgufFile, group: Any) -> Any:
    """The model of which each process of a group holds its pieces, on its GPU where it has one.

    The blocks of a GGUF file are dequantised, since the readable model would do it in each step.
    """
    from tfguide.torch.parallel.models import load_parallel

    path = checkpoint.path if isinstance(checkpoint, GgufFile) else checkpoint
    dtype = "float32" if options.dtype is None and isinstance(checkpoint, GgufFile) else options.dtype
    return load_parallel(path, group, options.ignore, *weights_of(dtype))
