"""A Ray cluster for a command: the one that RAY_ADDRESS names, or one of this machine that ends with the command."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import ray

from tfguide.native.machine import cores, default_threads


@dataclass(frozen=True)
class Share:
    """What one replica gets. cpus: the cores that Ray sets aside for it, threads: of its kernels."""

    cpus: int
    threads: int

    def take(self) -> None:
        """Let the kernels of this process have so many threads. Called before a model is loaded."""
        os.environ["TFGUIDE_THREADS"] = str(self.threads)


@contextlib.contextmanager
def cluster(replicas: int, cpus: int | None = None) -> Iterator[Share]:
    """A block in which Ray runs, and what each replica gets of it.

    cpus: the cores of a replica; default: as many as all replicas can have. Where TFGUIDE_THREADS is set, it says how
    many threads a replica has, else there is one for each core. Raises ValueError if so many cores are nowhere, and
    ConnectionError if RAY_ADDRESS names no cluster.
    """
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if address:
            ray.init(address, **quiet)
        else:
            # Ray's sockets lie in this folder, and the path of a socket has 107 characters at most.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tfguide", ignore_cleanup_errors=True))
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
            n = max(replicas * (cpus or 1), cores())
            ray.init("local", num_cpus=n, include_dashboard=False, _temp_dir=folder, **quiet)
        stack.callback(ray.shutdown)
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        given = share(nodes, replicas) if cpus is None else cpus
        if not given or sum(n // given for n in nodes) < replicas:
            raise ValueError(
                f"{replicas} replicas with {given or 1} cores each do not fit: the machines have {nodes} cores"
            )
        yield Share(given, default_threads(given))


def share(nodes: Sequence[int], replicas: int) -> int:
    """The most cores that each replica can have; 0 if some have none. nodes: the cores of each machine."""
    return next((n for n in range(max(nodes, default=0), 0, -1) if sum(node // n for node in nodes) >= replicas), 0)
