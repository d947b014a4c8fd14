"""The processes that compute a model together, and the four ways in which they move a tensor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tfguide.sharding.launch import SILENCE
from tfguide.torch.parallel.nearby import Nearby

try:
    from torch.distributed import all_gather_single, reduce_scatter_single
except ImportError:  # before PyTorch 2.13
    from torch.distributed import all_gather_into_tensor as all_gather_single
    from torch.distributed import reduce_scatter_tensor as reduce_scatter_single

_BEAT, _TICK = 1.0, 0.02  # seconds between signs of life, and between looks at them


class LostProcess(RuntimeError):
    """Another process of the group has ended, does not answer, or computes something else."""


class Group:
    """All processes of `torch.distributed`, which must have been started, or some of them.

    rank: this process among the n. `sent`: the elements that this process has sent, by the name of the step, on a ring
    of n processes: a collective over m elements, counted on its larger side, sends m (n - 1) / n; a sum that everybody
    gets is two of them. This is how `tfguide.sharding.Mesh` counts.
    """

    def __init__(
        self, processes: dist.ProcessGroup | None = None, store: dist.Store | None = None, nearby: Nearby | None = None
    ):
        self.processes, self.store, self.nearby = processes, store, nearby
        self.rank, self.n = dist.get_rank(processes), dist.get_world_size(processes)
        self.sent: dict[str, float] = {}
        self._n_done = 0

    @property
    def device(self) -> torch.device:
        """Where the tensors must lie that are sent: on this process's GPU by NCCL, else in main memory."""
        is_on_gpu = dist.get_backend(self.processes) == "nccl"
        return torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else torch.device("cpu")

    def all_reduce(self, x: Tensor, step: str) -> Tensor:
        """The sum of the tensors of all processes, on each of them."""
        self._count(step, 2 * x.numel())
        if self.nearby is not None and self.nearby.fits(x):
            return self._call_nearby(self.nearby.all_reduce, x)
        total = x.contiguous().clone()
        self._call(dist.all_reduce, total)
        return total

    def all_gather(self, x: Tensor, dim: int, step: str, sizes: list[int] | None = None) -> Tensor:
        """The tensors of all processes, joined along `dim`. sizes: of that dimension on each; default: equal ones."""
        own = x.shape[dim]
        most = max(sizes) if sizes else own
        part = x.movedim(dim, 0)
        if most > own:  # a collective moves parts of one size
            part = torch.cat([part, part.new_zeros(most - own, *part.shape[1:])])
        self._count(step, self.n * part.numel())  # with what fills the smaller parts up
        if self.nearby is not None and self.nearby.fits(part):
            whole = self._call_nearby(self.nearby.all_gather, part)
        else:
            whole = part.new_empty(self.n * most, *part.shape[1:])
            self._call(all_gather_single, whole, part.contiguous())
        if sizes:
            whole = torch.cat([one[:size] for one, size in zip(whole.split(most), sizes, strict=True)])
        return whole.movedim(0, dim)

    def reduce_scatter(self, x: Tensor, dim: int, step: str) -> Tensor:
        """The sum of the tensors of all processes, of which each gets its part along `dim`.

        Raises ValueError where the processes do not divide the dimension.
        """
        self._check(x, dim)
        self._count(step, x.numel())
        parts = x.movedim(dim, 0).contiguous()
        own = parts.new_empty(len(parts) // self.n, *parts.shape[1:])
        self._call(reduce_scatter_single, own, parts)
        return own.movedim(0, dim)

    def all_to_all(self, x: Tensor, split: int, join: int, step: str) -> Tensor:
        """Change the division of a tensor from the dimension `join` to the dimension `split`.

        Raises ValueError where the processes do not divide the dimension `split`.
        """
        self._check(x, split)
        self._count(step, x.numel())
        parts = torch.stack(x.chunk(self.n, split))
        moved = torch.empty_like(parts)
        self._call(dist.all_to_all_single, moved, parts)
        return torch.cat(list(moved), dim=join)

    def exchange(self, rows: Tensor, counts: list[int], step: str) -> tuple[Tensor, list[int]]:
        """Send rows (N, ...) to the processes, `counts` of them to each, in order: what came, and how many from each.

        Counted are the rows that other processes get; the counts themselves travel as well, n numbers.
        """
        sent = torch.tensor(counts, device=rows.device)
        came = torch.empty_like(sent)
        self._call(dist.all_to_all_single, came, sent)
        received = came.tolist()
        out = rows.new_empty(sum(received), *rows.shape[1:])
        self._call(dist.all_to_all_single, out, rows.contiguous(), received, counts)
        self.sent[step] = self.sent.get(step, 0.0) + (len(rows) - counts[self.rank]) * rows[:1].numel()
        return out, received

    def agree(self, what: str, value: Any) -> None:
        """Raises ValueError in all processes if a value, which JSON can hold, is not the same in all of them."""
        found = self.collect(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest())
        others = [rank for rank in range(self.n) if found[rank] != found[0]]
        if others:
            raise ValueError(f"{what} must be the same in all {self.n} processes: {others} differ from process 0")

    def collect(self, value: Any) -> list[Any]:
        """The picklable values of all processes, by rank, on each of them."""
        found = [None] * self.n
        self._call(dist.all_gather_object, found, value)
        return found

    def broadcast(self, value: Any = None) -> Any:
        """A picklable value of process 0, in all processes; the others' values are ignored."""
        box = [value if self.rank == 0 else None]
        self._call(dist.broadcast_object_list, box, group_src=0)
        return box[0]

    def by_messages(self) -> Group:
        """The same group, which sends small tensors as it does large ones."""
        return Group(self.processes, self.store)

    def all_do(self, work: Callable[[], Any], silence: float = SILENCE) -> Any:
        """Do what takes some processes longer than others, as reading files does, and wait for all: what it returns.

        silence: the seconds without a sign of life after which a process counts as lost. Without a `store` it is the
        patience of a collective. Raises LostProcess, and what `work` raises.
        """
        if self.store is None:
            result = work()
            self.wait()
            return result
        name, self._n_done = f"all do {self._n_done}", self._n_done + 1
        with _beating(self.store, f"{name} {self.rank}"):
            result = work()
            self.store.add(f"{name} done", 1)
            heard = [(0, time.monotonic())] * self.n
            while self.store.add(f"{name} done", 0) < self.n:
                time.sleep(_TICK)
                for rank, (beats, when) in enumerate(heard):
                    found = self.store.add(f"{name} {rank}", 0)
                    if found != beats:
                        heard[rank] = found, time.monotonic()
                    elif time.monotonic() - when > silence:
                        raise LostProcess(f"process {self.rank} of {self.n} has not heard of {rank} for {silence:g} s")
        return result

    def wait(self) -> None:
        """Wait until all processes have come here. Raises LostProcess."""
        self._call(dist.barrier)

    def _call(self, collective, *arguments, **options):
        """Call a collective. Raises LostProcess where another process does not take part."""
        try:
            return collective(*arguments, **options, group=self.processes)
        except (RuntimeError, ValueError) as error:  # gloo: a connection that was closed, or nothing in time
            raise LostProcess(
                f"process {self.rank} of {self.n} waits in vain for the others: one has ended, hangs, or computes "
                f"something else ({str(error).splitlines()[0]})"
            ) from error

    def _call_nearby(self, collective, x):
        try:
            return collective(x)
        except (TimeoutError, ValueError) as error:
            raise LostProcess(f"process {self.rank} of {self.n} waits in vain for the others: {error}") from error

    def _check(self, x, dim):
        if x.shape[dim] % self.n:
            raise ValueError(f"{self.n} processes cannot divide {x.shape[dim]} evenly")

    def _count(self, step, elements):
        self.sent[step] = self.sent.get(step, 0.0) + elements * (self.n - 1) / self.n


@contextlib.contextmanager
def _beating(store: dist.Store, key: str) -> Iterator[None]:
    """Count up in a store as long as the block lasts."""
    ended = threading.Event()

    def beat():
        with contextlib.suppress(RuntimeError):  # the store has ended
            while not ended.wait(_BEAT):
                store.add(key, 1)

    thread = threading.Thread(target=beat, name="tfguide beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
