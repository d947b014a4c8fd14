"""Collectives through memory that the processes of one machine share: a sum of a few thousand numbers in microseconds.

gloo sends messages between sockets, and a message wakes threads up on both sides, which takes longer than the sum.
"""

from __future__ import annotations

import mmap
import os
import platform
import time

import numpy as np
import torch
from torch import Tensor

CAPACITY = 1 << 20  # bytes of a tensor; larger ones are sent
_LINE = 8  # integers of a cache line: no two processes write to one
_SPINS = 200  # looks at the others' counters before another program may have the core


class Nearby:
    """Collectives of n processes over tensors of at most CAPACITY bytes, through a file that all of them map.

    A process writes its tensor into its own slot and counts up; when all have counted, each reads all slots. Of two
    slots one is read while the other is written: who writes the next one but one knows that all have counted since, and
    so have read. Sums are taken in the order of the processes, so that all get the same bits. x86 processors alone: on
    others stores may become visible in another order.

    silence: the seconds after which a process that has not counted is lost.
    """

    def __init__(self, file: str, rank: int, n: int, silence: float):
        self.rank, self.n, self.silence = rank, n, silence
        head = n * _LINE * 8
        n_bytes = head + 2 * n * CAPACITY
        handle = os.open(file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            os.ftruncate(handle, n_bytes)  # the first one makes it, filled with zeros
            memory = mmap.mmap(handle, n_bytes)
        finally:
            os.close(handle)
        self._counters = memoryview(memory)[:head].cast("q")  # of each process: its calls, and the size of the last two
        slots = torch.from_numpy(np.frombuffer(memory, np.uint8, offset=head)).view(2, n, CAPACITY)
        self._slots = [list(half) for half in slots]
        self._calls = 0

    @staticmethod
    def is_available() -> bool:
        """Whether this machine orders stores so that the counters can be relied on."""
        return platform.machine().lower() in ("x86_64", "amd64")

    def fits(self, x: Tensor) -> bool:
        """Whether a tensor is exchanged here: one in main memory that is small enough."""
        return x.device.type == "cpu" and x.numel() * x.element_size() <= CAPACITY

    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of the tensors of all processes, on each of them. Raises TimeoutError, ValueError."""
        first, *others = self._exchange(x)
        total = first.clone()
        for part in others:
            total += part
        return total.view(x.shape)

    def all_gather(self, x: Tensor) -> Tensor:
        """The tensors (m, ...) of all processes, one after the other: (n m, ...). Raises TimeoutError, ValueError."""
        return torch.cat(self._exchange(x)).view(-1, *x.shape[1:])

    def _exchange(self, x):
        """The flat tensors of all processes, in memory that the next call but one overwrites."""
        self._calls += 1
        half, flat = self._calls % 2, x.contiguous().flatten()
        size, own, counters = flat.numel() * flat.element_size(), self.rank * _LINE, self._counters
        self._slots[half][self.rank][:size].copy_(flat.view(torch.uint8))
        counters[own + 1 + half] = size
        counters[own] = self._calls  # last: what came before is there when this is seen
        for rank in range(self.n):
            self._await(rank)
            if counters[rank * _LINE + 1 + half] != size:
                raise ValueError(f"process {rank} exchanges {counters[rank * _LINE + 1 + half]} bytes, not {size}")
        return [slot[:size].view(flat.dtype) for slot in self._slots[half]]

    def _await(self, rank):
        place, calls, counters = rank * _LINE, self._calls, self._counters
        for _ in range(_SPINS):
            if counters[place] >= calls:
                return
        end = time.monotonic() + self.silence
        while counters[place] < calls:
            os.sched_yield()
            if time.monotonic() > end:
                raise TimeoutError(f"process {rank} has not come in {self.silence:g} s")
