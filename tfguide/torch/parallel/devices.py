"""Processes that compute with DTensors, and the collectives that PyTorch issues for them, counted.

A DTensor is a tensor of which each process holds a piece. Its placements, one for each axis of the mesh, say which:
`Shard(dim)` a part along a dimension, `Replicate()` all of it, `Partial()` a summand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import device_mesh
from torch.distributed.tensor import DTensor, Placement, distribute_tensor
from torch.distributed.tensor.experimental import implicit_replication
from torch.utils._python_dispatch import TorchDispatchMode

from tfguide.sharding.mesh import ALL
from tfguide.torch.parallel.mesh import check_processes

#: The collectives that DTensors issue, by the names of PyTorch.
COLLECTIVES = {
    "_c10d_functional::all_gather_into_tensor": "all_gather",
    "_c10d_functional::reduce_scatter_tensor": "reduce_scatter",
    "_c10d_functional::all_reduce": "all_reduce",
    "_c10d_functional::all_to_all_single": "all_to_all",
    "_dtensor::shard_dim_alltoall": "all_to_all",
}
#: What moves nothing: it waits for a collective, or keeps its gradient.
LOCAL = ("_c10d_functional::wait_tensor", "_c10d_functional::_wrap_tensor_autograd")


class DeviceMesh:
    """X x Y x Z devices, one for each process of `torch.distributed`, which must have been started.

    `n`: the processes. `sent`: the elements that this process has sent, by the name of the collective that PyTorch
    really issued: of m elements on its larger side among p processes m (p - 1) / p, a sum that all get two of them.
    Raises ValueError if there are more or fewer processes than the mesh has places.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = check_processes(sizes)
        self.n = math.prod(self.sizes)
        self.sent: dict[str, float] = {}
        self._meshes: dict[tuple, device_mesh.DeviceMesh] = {}
        self._group_sizes: dict[str, int] = {}

    def count(self, axes: Sequence[int]) -> int:
        """The processes along some axes."""
        return math.prod(self.sizes[axis] for axis in axes)

    def along(self, *groups: Sequence[int]) -> device_mesh.DeviceMesh:
        """PyTorch's mesh of the same processes: each group of axes together is one of its dimensions.

        Axes of one process may be left out.
        """
        if groups not in self._meshes:
            named = [axis for axes in groups for axis in axes]
            order = [*(axis for axis in ALL if axis not in named), *named]
            shape = [self.count(axes) for axes in groups]
            ranks = torch.arange(self.n).reshape(self.sizes).permute(order).reshape(shape)
            kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
            made = device_mesh.DeviceMesh(kind, ranks)
            self._meshes[groups] = made
            self._group_sizes |= {group.group_name: group.size() for group in made.get_all_groups()}
        return self._meshes[groups]

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Within the block, what DTensors send is counted, and a tensor beside them is the same on every process."""
        with _Counter(self._count), implicit_replication(), torch.no_grad():
            yield

    def _count(self, collective, given, got, group):
        p = self._group_sizes[group]
        elements = (2 if collective == "all_reduce" else 1) * max(given.numel(), got.numel())
        self.sent[collective] = self.sent.get(collective, 0.0) + elements * (p - 1) / p


class _Counter(TorchDispatchMode):
    """A mode in which `count` gets every collective, what it took and gave, and its group. RuntimeError for others."""

    def __init__(self, count: Callable[[str, Tensor, Tensor, str], None]):
        super().__init__()
        self._count = count

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor splits it, and what it does with its own piece comes here again
        result = function(*args, **(kwargs or {}))
        name = function.name().partition(".")[0]
        if name in COLLECTIVES:
            self._count(COLLECTIVES[name], args[0], result, args[-1])
        elif function.namespace in ("_c10d_functional", "_dtensor", "c10d") and name not in LOCAL:
            raise RuntimeError(f"a collective that is not counted: {name}")
        return result


def placed(array: np.ndarray, along: device_mesh.DeviceMesh, *placements: Placement) -> DTensor:
    """An array, which every process has, as a DTensor: each takes its own piece, and nothing is sent."""
    return distribute_tensor(torch.as_tensor(array), along, placements, src_data_rank=None)
