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

STARTS = 3  # of a local cluster, before it is given up
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


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
    with contextlib.ExitStack() as stack:
        if address:
            ray.init(address, **_QUIET)
            stack.callback(ray.shutdown)
        else:
            stack.enter_context(local(max(replicas * (cpus or 1), cores())))
        nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        given = share(nodes, replicas) if cpus is None else cpus
        if not given or sum(n // given for n in nodes) < replicas:
            raise ValueError(
                f"{replicas} replicas with {given or 1} cores each do not fit: the machines have {nodes} cores"
            )
        yield Share(given, default_threads(given))


@contextlib.contextmanager
def local(n: int) -> Iterator[str]:
    """A block in which a cluster of this machine runs, with n cores, in a folder of its own: its address.

    Raises RuntimeError where it does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    # Ray's sockets lie in this folder, and the path of a socket has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="tfguide", ignore_cleanup_errors=True) as folder:
        try:
            yield _start(n, folder)
        finally:
            ray.shutdown()


def _start(n, folder):
    for _ in range(STARTS):
        try:
            context = ray.init("local", num_cpus=n, include_dashboard=False, _temp_dir=folder, **_QUIET)
            return context.address_info["gcs_address"]
        except Exception as error:  # Ray gives its processes 30 s, which a busy machine may exceed
            reason = error
    raise RuntimeError(f"Ray does not start: {reason}") from reason


def share(nodes: Sequence[int], replicas: int) -> int:
    """The most cores that each replica can have; 0 if some have none. nodes: the cores of each machine."""
    return next((n for n in range(max(nodes, default=0), 0, -1) if sum(node // n for node in nodes) >= replicas), 0)
