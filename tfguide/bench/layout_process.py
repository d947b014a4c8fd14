"""`python -m tfguide.bench.layout_process FRAMEWORK N FOLDER`: what one process does for `tfguide.bench.layouts`.

It carries out every case in each version that the framework has, and writes what it found into the folder.
"""

from __future__ import annotations

import faulthandler
import logging
import sys
from pathlib import Path

from tfguide.bench.layout_cases import run_all
from tfguide.bench.run import write_json
from tfguide.sharding import mesh as layouts
from tfguide.sharding.launch import ranks

SECONDS = 300.0  # after which a process that still runs ends itself


def main(arguments: list[str]) -> int:
    """Do what the command line says; returns 0."""
    framework, n, folder = arguments
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    found = {"torch": _torch, "tensorflow": _tensorflow}[framework](int(n))
    rank, _ = ranks() or (0, 1)
    write_json(found, str(Path(folder) / f"{rank}.json"))
    return 0


def _torch(n):
    """PyTorch: the code of the simulated mesh on a mesh of processes, with explicit collectives, and DTensor."""
    import torch

    import tfguide.torch
    from tfguide.torch.parallel import dtensor, joined
    from tfguide.torch.parallel.mesh import ProcessMesh

    # DTensor says where one collective over two axes would be quicker than two, and that CPUs have no all-to-all.
    for name in ("torch.distributed.tensor", "torch._logging"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with joined():
        return {
            "collectives": run_all(n, layouts, ProcessMesh, tfguide.torch, torch.from_numpy),
            "DTensor": run_all(n, dtensor, dtensor.DeviceMesh, tfguide.torch, lambda array: array),
        }


def _tensorflow(n):
    """TensorFlow's DTensor, on n virtual devices of one process."""
    import tfguide.tensorflow
    from tfguide.tensorflow.parallel import devices, dtensor

    devices.start(n)
    return {"DTensor": run_all(n, dtensor, dtensor.DeviceMesh, tfguide.tensorflow, lambda array: array)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
