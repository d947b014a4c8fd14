"""Join the processes that `tfguide.sharding.launch` or torchrun has started."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from tfguide.sharding.launch import LOST, SILENCE, STORE, end_with_parent, ranks
from tfguide.torch.parallel.group import Group, LostProcess
from tfguide.torch.parallel.nearby import Nearby

_BEGIN = datetime.timedelta(seconds=120)  # Python and PyTorch may have to be read from a slow disk first


@contextlib.contextmanager
def joined(timeout: float = SILENCE) -> Iterator[Group]:
    """Within the block, the group of all processes; after it, they part.

    timeout: the seconds after which a process that does not take part counts as lost. The processes send by NCCL where
    each has a GPU of its own, which `torch.cuda.current_device` then is, else by gloo.
    Raises RuntimeError in a process that nobody started as one of several, LostProcess where the others do not come. A
    LostProcess of the block ends a process that `launch` has started, which reports it.
    """
    found = ranks()
    if found is None:
        raise RuntimeError("this process is not one of several: start them with torchrun, or with --tensor-parallel")
    rank, n = found
    end_with_parent()
    gpu = int(os.environ.get("LOCAL_RANK", rank))
    has_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", n))
    if has_gpus:
        torch.cuda.set_device(gpu)
    file = os.environ.get(STORE)
    try:
        store, *_ = next(rendezvous(f"file://{file}" if file else "env://", rank, n, timeout=_BEGIN))
        store.set_timeout(_BEGIN)
        store.set(f"here {rank}", "")
        store.wait([f"here {other}" for other in range(n)], _BEGIN)
        dist.init_process_group(
            "nccl" if has_gpus else "gloo", store=dist.PrefixStore("group", store), rank=rank, world_size=n,
            timeout=datetime.timedelta(seconds=timeout),
        )  # fmt: skip
    except RuntimeError as error:
        if file is not None:
            sys.exit(LOST)
        raise LostProcess(f"process {rank} of {n} waits in vain for the others to start: {error}") from error
    try:
        yield Group(store=store, nearby=_nearby(file, rank, n, timeout, store) if file and not has_gpus else None)
    except LostProcess:
        if file is None:
            raise
        sys.exit(LOST)  # `launch` knows which process it was, and says so
    finally:
        with contextlib.suppress(RuntimeError):  # where another one is gone already
            dist.destroy_process_group()


def _nearby(file, rank, n, timeout, store):
    """The memory that the processes of one machine share, or None. The file has no name once all have it."""
    if n == 1 or not Nearby.is_available():
        return None
    name = f"{file}-memory"
    nearby = Nearby(name, rank, n, timeout)
    store.set(f"memory {rank}", "")
    store.wait([f"memory {other}" for other in range(n)], _BEGIN)
    if rank == 0:
        os.unlink(name)
    return nearby
