"""Processes in which something goes wrong: `python -m tests.parallel.faulty WHAT FOLDER`."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from tests.support import random_weights, small_config
from tfguide.torch.parallel import joined, parallel_from_weights

PATIENCE = 2.0  # seconds


def killed(group):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def stopped(group):
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


def stopped_reading(group):
    group.all_do(lambda: stopped(group), silence=2.0)


def failed(group):
    if group.rank == 1:
        raise ValueError("the disk is full")


def another_model(group):
    config = small_config(n_heads=2, d_ff=32, max_positions=30 + group.rank)
    parallel_from_weights(config, random_weights(config), group)


def another_shape(group):
    group.all_reduce(torch.ones(2 + group.rank), "sum")


def another_step(group):
    if group.rank == 0:
        group.agree("what comes", 1)


def slow(group):
    assert group.all_do(lambda: time.sleep(2 * PATIENCE * group.rank) or group.rank) == group.rank
    group.all_reduce(torch.ones(2), "sum")
    sys.exit(0)


def waiting(group):
    time.sleep(60)


def main(what, folder):
    try:
        with joined(PATIENCE) as group:
            (Path(folder) / f"pid-{group.rank}").write_text(str(os.getpid()))
            group.all_reduce(torch.ones(3), "sum")
            globals()[what](group)
            for _ in range(3):
                group.all_reduce(torch.ones(3), "sum")
    except ValueError as error:
        print(f"tfguide: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(*sys.argv[1:])
