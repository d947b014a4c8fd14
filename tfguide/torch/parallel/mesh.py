"""A mesh of real processes: the layouts of `tfguide.sharding.mesh` run on it as they stand there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import Self

import torch.distributed as dist
from torch import Tensor

from tfguide.sharding.layouts import check_mesh
from tfguide.sharding.mesh import Mesh, Sharded
from tfguide.torch.parallel.group import Group


class ProcessMesh(Mesh):
    """X x Y x Z processes of `torch.distributed`, which must have been started; their ranks count Z first, X last.

    It has the methods of the simulated `tfguide.sharding.mesh.Mesh`, on tensors, so that `feed_forward` and `attention`
    from there run on it. Every process calls them with the same whole arrays, of which it takes its own pieces, and
    gets the whole result. `chips`: the coordinates of this process alone: a sharded array has one entry, its own part.
    `close`, or the end of a `with` block, ends the groups of processes that were made.
    Raises ValueError if there are more or fewer processes than the mesh has places.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = check_processes(sizes)
        self._places = list(product(*map(range, self.sizes)))
        self.chips = [self._places[dist.get_rank()]]
        self._groups_along: dict[tuple[int, ...], Group] = {}

    @property
    def sent(self) -> dict[str, float]:
        """The elements that this process has given to collectives, by the name of the step."""
        total: Counter[str] = Counter()
        for group in self._groups_along.values():
            total.update(group.sent)
        return dict(total)

    def all_gather(self, parts: Sharded, axes: Sequence[int], dim: int, step: str | None) -> Sharded:
        """Every process of a group gets the parts of all, joined along `dim`. step None: not counted."""
        group = self.group(axes)
        if step is None:
            group = Group(group.processes)  # the same processes, with counts that nobody reads
        return self._each(parts, lambda part: group.all_gather(part, dim, step))

    def reduce_scatter(self, parts: Sharded, axes: Sequence[int], dim: int, step: str) -> Sharded:
        """The sum over a group, divided among it along `dim`."""
        return self._each(parts, lambda part: self.group(axes).reduce_scatter(part, dim, step))

    def all_to_all(self, parts: Sharded, axes: Sequence[int], split: int, join: int, step: str) -> Sharded:
        """Change the division of an array from the dimension `join` to the dimension `split`."""
        return self._each(parts, lambda part: self.group(axes).all_to_all(part, split, join, step))

    def group(self, axes: Sequence[int]) -> Group:
        """The processes that differ from this one only along the axes; made where it is asked for first.

        Every process must ask for the same axes in the same order, as it does when all run the same layout.
        """
        axes = tuple(axes)
        if axes not in self._groups_along:
            members: dict[tuple[int, ...], list[int]] = {}
            for rank, place in enumerate(self._places):
                others = tuple(at for axis, at in enumerate(place) if axis not in axes)
                members.setdefault(others, []).append(rank)
            own, _ = dist.new_subgroups_by_enumeration(list(members.values()))
            self._groups_along[axes] = Group(own)
        return self._groups_along[axes]

    def close(self) -> None:
        """End the groups of processes; what was sent is forgotten."""
        for group in self._groups_along.values():
            dist.destroy_process_group(group.processes)
        self._groups_along.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _each(self, parts: Sharded, move: Callable[[Tensor], Tensor]) -> Sharded:
        return {chip: move(parts[chip]) for chip in self.chips}


def check_processes(sizes: Sequence[int]) -> tuple[int, int, int]:
    """A mesh as three counts, of as many places as processes run. Raises ValueError or TypeError."""
    sizes, n = check_mesh(sizes), dist.get_world_size()
    if math.prod(sizes) != n:
        raise ValueError(f"a mesh of {' x '.join(map(str, sizes))} needs {math.prod(sizes)} processes, and {n} run")
    return sizes
