"""`python -m tfguide.bench.layout_process VERSION N FOLDER`: what one process does for `tfguide.bench.layouts`.

It carries out every case in one version, and writes what it found into the folder.
"""

from __future__ import annotations

import faulthandler
import sys
from pathlib import Path

import tfguide
from tfguide.bench.layout_cases import run_all
from tfguide.bench.run import write_json
from tfguide.sharding import mesh as layouts
from tfguide.sharding.launch import ranks

SECONDS = 300.0  # after which a process that still runs ends itself


def main(arguments: list[str]) -> int:
    """Do what the command line says; returns 0."""
    version, n, folder = arguments
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    found = {"collectives": _collectives, "torch": _torch, "tensorflow": _tensorflow}[version](int(n))
    rank, _ = ranks() or (0, 1)
    write_json(found, str(Path(folder) / f"{rank}.json"))
    return 0


def _collectives(n):
    """PyTorch with explicit collectives: the code of the simulated mesh, on a mesh of processes."""
    import torch

    import tfguide.torch
    from tfguide.torch.parallel import joined
    from tfguide.torch.parallel.mesh import ProcessMesh

    with joined():
        return run_all(n, layouts, ProcessMesh, tfguide.torch, torch.from_numpy)


def _torch(n):
    """PyTorch's DTensor."""
    import logging

    import tfguide.torch
    from tfguide.torch.parallel import dtensor, joined

    # It says that one collective over two axes would be quicker than two, wherever it needs two.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
    logging.getLogger("torch._logging").setLevel(logging.ERROR)  # and that it has no all-to-all between CPUs
    with joined():
        return run_all(n, dtensor, dtensor.DeviceMesh, tfguide.torch, lambda array: array)


def _tensorflow(n):
    """TensorFlow's DTensor, on n virtual devices of one process."""
    import tfguide.tensorflow
    from tfguide.tensorflow.parallel import dtensor

    dtensor.start(n)
    return run_all(n, dtensor, dtensor.DeviceMesh, tfguide.tensorflow, lambda array: array)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
