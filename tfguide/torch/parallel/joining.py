"""Join the processes that `tfguide.sharding.launch` or torchrun has started."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from tfguide.sharding.launch import SILENCE, STORE, end_with_parent, ranks
from tfguide.torch.parallel.group import Group, LostProcess


@contextlib.contextmanager
def joined(timeout: float = SILENCE) -> Iterator[Group]:
    """Within the block, the group of all processes; after it, they part.

    timeout: the seconds after which a process that does not take part counts as lost. The processes send by NCCL where
    each has a GPU of its own, which `torch.cuda.current_device` then is, else by gloo.
    Raises RuntimeError in a process that nobody started as one of several, LostProcess where the others do not come.
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
    file, patience = os.environ.get(STORE), datetime.timedelta(seconds=timeout)
    try:
        store, *_ = next(rendezvous(f"file://{file}" if file else "env://", rank, n, timeout=patience))
        store.set_timeout(patience)
        dist.init_process_group(
            "nccl" if has_gpus else "gloo", store=dist.PrefixStore("group", store), rank=rank, world_size=n,
            timeout=patience,
        )  # fmt: skip
    except RuntimeError as error:
        raise LostProcess(f"process {rank} of {n} waits in vain for the others to start: {error}") from error
    try:
        yield Group(store=store)
    finally:
        with contextlib.suppress(RuntimeError):  # where another one is gone already
            dist.destroy_process_group()
