"""A model of several processes behind one engine: process 0 leads, the others do as it does."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import torch.distributed as dist

from tfguide.generation.paged import PagedCache
from tfguide.torch.parallel.group import Group
from tfguide.torch.parallel.models import ParallelDecoder

_FOREVER = datetime.timedelta(days=365)  # a server may have nothing to do for long


class Leader:
    """The decoder that an `Engine` in process 0 takes; `follow` runs in the others.

    Before each step the others are told what is read, and where in the cache: the blocks of the rows. One thread uses
    it at a time. Raises LostProcess where another process has ended or does not answer.
    """

    def __init__(self, model: ParallelDecoder):
        self.model, self.config, self._orders = model, model.config, _orders()

    def new_storage(self, *sizes: Any) -> Any:
        """The tensors of a cache, of this process's heads: see `Generator.new_storage`."""
        return self.model.new_storage(*sizes)

    def new_paged_cache(self, *sizes: Any) -> PagedCache:
        """An empty cache in every process, of which the first one's is returned: see `Generator.new_paged_cache`."""
        self._orders.broadcast(("cache", sizes))
        return self.model.new_paged_cache(*sizes)

    def decode_rows(
        self, tokens: np.ndarray, rows: np.ndarray, cache: PagedCache, wanted: np.ndarray, prompts: np.ndarray
    ) -> np.ndarray:
        """Read new tokens in every process: see `Generator.decode_rows`."""
        self._orders.broadcast(("read", (tokens, rows, [cache.held(row) for row in np.unique(rows)], wanted, prompts)))
        return self.model.decode_rows(tokens, rows, cache, wanted, prompts)

    def dismiss(self) -> None:
        """Let the others end."""
        self._orders.broadcast(("end", ()))


def follow(model: ParallelDecoder) -> None:
    """Do as the `Leader` in process 0 does, until it dismisses this process. Raises LostProcess as `Leader`."""
    orders, cache = _orders(), None
    while True:
        order, arguments = orders.broadcast()
        if order == "end":
            return
        if order == "cache":
            cache = model.new_paged_cache(*arguments)
            continue
        tokens, rows, held, wanted, prompts = arguments
        for row in held:
            cache.assign(*row)
        model.decode_rows(tokens, rows, cache, wanted, prompts)


def _orders() -> Group:
    """A group of all processes in which one may wait as long as it likes."""
    return Group(dist.new_group(timeout=_FOREVER, backend="gloo"))
