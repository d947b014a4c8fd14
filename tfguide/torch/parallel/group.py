"""The processes that compute a model together, and the four ways in which they move a tensor."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

# The names of PyTorch 2.13, and those of the versions before.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Group:
    """All processes of `torch.distributed`, which must have been started, or some of them.

    rank: this process among the n. `sent`: the elements that this process has sent, by the name of the step, on a ring
    of n processes: a collective over m elements, counted on its larger side, sends m (n - 1) / n; a sum that everybody
    gets is two of them. This is how `tfguide.sharding.Mesh` counts.
    """

    def __init__(self, processes: dist.ProcessGroup | None = None):
        self.processes = processes
        self.rank, self.n = dist.get_rank(processes), dist.get_world_size(processes)
        self.sent: dict[str, float] = {}

    def all_reduce(self, x: Tensor, step: str) -> Tensor:
        """The sum of the tensors of all processes, on each of them."""
        self._count(step, 2 * x.numel())
        total = x.contiguous().clone()
        dist.all_reduce(total, group=self.processes)
        return total

    def all_gather(self, x: Tensor, dim: int, step: str, sizes: list[int] | None = None) -> Tensor:
        """The tensors of all processes, joined along `dim`. sizes: of that dimension on each; default: equal ones."""
        own = x.shape[dim]
        most = max(sizes) if sizes else own
        part = x.movedim(dim, 0)
        if most > own:  # a collective moves parts of one size
            part = torch.cat([part, part.new_zeros(most - own, *part.shape[1:])])
        whole = part.new_empty(self.n * most, *part.shape[1:])
        _all_gather(whole, part.contiguous(), group=self.processes)
        if sizes:
            whole = torch.cat([one[:size] for one, size in zip(whole.split(most), sizes, strict=True)])
        self._count(step, whole.numel())
        return whole.movedim(0, dim)

    def reduce_scatter(self, x: Tensor, dim: int, step: str) -> Tensor:
        """The sum of the tensors of all processes, of which each gets its part along `dim`.

        Raises ValueError where the processes do not divide the dimension.
        """
        self._check(x, dim)
        self._count(step, x.numel())
        parts = x.movedim(dim, 0).contiguous()
        own = parts.new_empty(len(parts) // self.n, *parts.shape[1:])
        _reduce_scatter(own, parts, group=self.processes)
        return own.movedim(0, dim)

    def all_to_all(self, x: Tensor, split: int, join: int, step: str) -> Tensor:
        """Change the division of a tensor from the dimension `join` to the dimension `split`.

        Raises ValueError where the processes do not divide the dimension `split`.
        """
        self._check(x, split)
        self._count(step, x.numel())
        parts = torch.stack(x.chunk(self.n, split))
        moved = torch.empty_like(parts)
        dist.all_to_all_single(moved, parts, group=self.processes)
        return torch.cat(list(moved), dim=join)

    def exchange(self, rows: Tensor, counts: list[int], step: str) -> tuple[Tensor, list[int]]:
        """Send rows (N, ...) to the processes, `counts` of them to each, in order: what came, and how many from each.

        Counted are the rows that other processes get; the counts themselves travel as well, n numbers.
        """
        sent = torch.tensor(counts)
        came = torch.empty_like(sent)
        dist.all_to_all_single(came, sent, group=self.processes)
        received = came.tolist()
        out = rows.new_empty(sum(received), *rows.shape[1:])
        dist.all_to_all_single(out, rows.contiguous(), received, counts, group=self.processes)
        self.sent[step] = self.sent.get(step, 0.0) + (len(rows) - counts[self.rank]) * rows[:1].numel()
        return out, received

    def _check(self, x, dim):
        if x.shape[dim] % self.n:
            raise ValueError(f"{self.n} processes cannot divide {x.shape[dim]} evenly")

    def _count(self, step, elements):
        self.sent[step] = self.sent.get(step, 0.0) + elements * (self.n - 1) / self.n
