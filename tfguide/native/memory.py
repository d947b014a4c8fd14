"""The read speed of the memory, measured by the kernels."""

from __future__ import annotations

import time

import numpy as np

from tfguide.checks.values import check_count
from tfguide.native.library import library
from tfguide.native.machine import default_threads, use_huge_pages


class MemoryReader:
    """A large buffer. A call reads every byte of it and returns the bytes per second of that pass.

    threads: default: TFGUIDE_THREADS, or all cores that this process may use.
    """

    def __init__(self, n_bytes: int = 3 << 29, threads: int | None = None):
        self.threads = default_threads() if threads is None else check_count("threads", threads)
        self._library = library()
        self._memory = np.ones(n_bytes // 4, np.float32)
        self.n_bytes = self._memory.nbytes
        use_huge_pages(self._memory.ctypes.data, self.n_bytes)

    def __call__(self) -> float:
        start = time.perf_counter()
        self._library.tfguide_read(self._memory.ctypes.data, self.n_bytes, self.threads)
        return self.n_bytes / (time.perf_counter() - start)
