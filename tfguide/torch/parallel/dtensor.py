"""The layouts once more, by DTensor: the code says how tensors are placed, and PyTorch chooses what the processes send.

A DTensor is a tensor of which each process holds a piece. Its placements, one for each axis of the mesh, say which:
`Shard(dim)` a part along a dimension, `Replicate()` all of it, `Partial()` a summand.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, zeros
from torch.distributed.tensor.experimental import implicit_replication
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from tfguide.checks.shapes import check_config
from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.dtypes import choose_cache_dtype
from tfguide.generation.rings import layer_slots
from tfguide.sharding.cuts import check_processes, divided_axis
from tfguide.sharding.layouts import LAYOUTS
from tfguide.sharding.mesh import ALL, GATHERED, X, Y, Z
from tfguide.torch.cache import KVCache, Storage
from tfguide.torch.linear import left_out
from tfguide.torch.models import Decoder
from tfguide.torch.parallel.mesh import check_processes as check_mesh_processes
from tfguide.weights import check_dtype, check_weights, stays_float32, weight_table

#: The collectives that DTensor issues, and how often a ring sends their larger side: by the names of PyTorch.
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
    """X x Y x Z processes that compute with DTensors; `torch.distributed` must have been started in each of them.

    `n`: the processes. `sent`: the elements that this process has sent, by the name of the collective that PyTorch
    really issued: of m elements on its larger side among p processes m (p - 1) / p, a sum that all get two of them.
    Raises ValueError if there are more or fewer processes than the mesh has places.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = check_mesh_processes(sizes)
        self.n = math.prod(self.sizes)
        self.sent: dict[str, float] = {}
        self._meshes: dict[tuple, device_mesh.DeviceMesh] = {}
        self._group_sizes: dict[str, int] = {}

    def along(self, *groups: Sequence[int]) -> device_mesh.DeviceMesh:
        """PyTorch's mesh of the same processes: each group of axes together is one of its dimensions."""
        if groups not in self._meshes:
            order = [axis for axes in groups for axis in axes]
            shape = [math.prod(self.sizes[axis] for axis in axes) for axes in groups]
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


def feed_forward(
    mesh: DeviceMesh,
    layout: str,
    x: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    gate: np.ndarray | None = None,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> np.ndarray:
    """`activation(x up) down`, or `(activation(x gate) * x up) down`, carried out on the mesh in one of LAYOUTS.

    x: (tokens, D), its features divided among all processes before and after; up, gate: (D, F); down: (F, D); all
    processes pass the same and get the same, (tokens, D). activation: of a DTensor. `mesh.sent` has the counts.
    Source: Pope et al. 2022, figure 2 and appendix A. Raises ValueError for an unknown layout.
    """
    check_choice("layout", layout, LAYOUTS)
    gates = [up] if gate is None else [gate, up]

    def activate(hidden):
        return activation(hidden[0]) if gate is None else activation(hidden[0]) * hidden[1]

    with mesh.counted():
        if layout in GATHERED:
            y = _weight_gathered(mesh, GATHERED[layout], x, gates, down, activate)
        elif layout == "1d-ws":
            y = _one_dimension(mesh, x, gates, down, activate)
        else:
            y = _two_dimensions(mesh, x, gates, down, activate)
    return y.full_tensor().cpu().numpy()


def _one_dimension(mesh, x, gates, down, activate):
    """Hidden features are divided among all processes."""
    along = mesh.along(ALL)
    whole = _placed(x, along, Shard(1)).redistribute(placements=[Replicate()])
    hidden = [whole @ _placed(weight, along, Shard(1)) for weight in gates]  # (tokens, F), divided
    y = activate(hidden) @ _placed(down, along, Shard(0))  # (tokens, D), a summand on each
    return y.redistribute(placements=[Shard(1)])


def _two_dimensions(mesh, x, gates, down, activate):
    """Features of the model are divided along X, hidden ones along Y and Z."""
    along = mesh.along((X,), (Y, Z))
    mine = _placed(x, along, Shard(1), Shard(1)).redistribute(placements=[Shard(1), Replicate()])
    hidden = [mine @ _placed(weight, along, Shard(0), Shard(1)) for weight in gates]  # sums over X are still missing
    # Where they are complete, X divides tokens. The other version divides hidden features once more, and sends as much.
    hidden = [h.redistribute(placements=[Shard(0), Shard(1)]) for h in hidden]
    activated = activate(hidden).redistribute(placements=[Replicate(), Shard(1)])
    y = activated @ _placed(down, along, Shard(1), Shard(0))  # sums over Y and Z are missing
    return y.redistribute(placements=[Shard(1), Shard(1)])


def _weight_gathered(mesh, axes, x, gates, down, activate):
    """Tokens are divided along `axes`, over which the weights are gathered; features along the other axes."""
    # Of one dimension, what is gathered must lie within what stays divided: Y within Z.
    order = [(X,), (Z,), (Y,)] if axes == (X, Y) else [(X,), (Y, Z)]
    along = mesh.along(*order)
    gathered = [group[0] in axes for group in order]

    def whole(weight, model_dim, hidden_dim):
        stored = [Shard(model_dim if X in group else hidden_dim) for group in order]
        stays = [Replicate() if one else place for one, place in zip(gathered, stored, strict=True)]
        return _placed(weight, along, *stored).redistribute(placements=stays)

    firsts = [whole(weight, 0, 1) for weight in gates]  # (D, F), F along the axes that are left
    last = whole(down, 1, 0)
    divided = [Shard(0) if one else Shard(1) for one in gathered]
    tokens = [Shard(0) if one else Replicate() for one in gathered]
    mine = _placed(x, along, *divided).redistribute(placements=tokens)
    y = activate([mine @ first for first in firsts]) @ last
    return y.redistribute(placements=divided)


def attention(
    mesh: DeviceMesh,
    how: str,
    x: np.ndarray,
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    output: np.ndarray,
    n_heads: int,
    n_kv_heads: int,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> np.ndarray:
    """Multi-head attention on the mesh, the caches divided by "head" or by "batch".

    x: (B, T, D); query: (D, H d); key, value: (D, K d); output: (H d, D); all processes pass the same and get the same,
    (B, T, D). attend: from heads (b, T, h, d) and (b, T, k, d), DTensors, to (b, T, h, d). `mesh.sent` has the counts.
    By "head", fewer key/value heads than processes are computed by every process. Source: Pope et al. 2022, figure 4.
    Raises ValueError if the processes do not divide the heads, or the sequences.
    """
    check_choice("how", how, ("batch", "head"))
    if n_heads % mesh.n:
        raise ValueError(f"{mesh.n} processes cannot divide {n_heads} heads evenly")
    if how == "batch" and len(x) % mesh.n:
        raise ValueError(f"{mesh.n} processes cannot divide {len(x)} sequences evenly")
    along, is_divided = mesh.along(ALL), n_kv_heads % mesh.n == 0
    with mesh.counted():
        whole = _placed(x, along, Shard(2)).redistribute(placements=[Replicate()])
        queries = (whole @ _placed(query, along, Shard(1))).unflatten(2, (n_heads, -1))  # (B, T, H, d), by heads
        if how == "head":
            place = Shard(1) if is_divided else Replicate()
            pair = [(whole @ _placed(w, along, place)).unflatten(2, (n_kv_heads, -1)) for w in (key, value)]
            if not is_divided:  # each keeps what its own query heads need
                pair = [_repeated(heads, n_heads).redistribute(placements=[Shard(2)]) for heads in pair]
            results = attend(queries, *pair)
        else:
            sequences = whole.redistribute(placements=[Shard(0)])  # nothing is sent: each has them whole
            pair = [(sequences @ _placed(w, along, Replicate())).unflatten(2, (n_kv_heads, -1)) for w in (key, value)]
            results = attend(queries.redistribute(placements=[Shard(0)]), *pair)
            results = results.redistribute(placements=[Shard(2)])
        y = results.flatten(2) @ _placed(output, along, Shard(0))
        y = y.redistribute(placements=[Shard(2)])
    return y.full_tensor().cpu().numpy()


def _repeated(heads, n_heads):
    """Each key/value head as often as there are query heads for it: (B, T, K, d) to (B, T, H, d)."""
    B, T, K, d = heads.shape
    return heads[:, :, :, None].expand(B, T, K, n_heads // K, d).flatten(2, 3)


def _placed(array, along, *placements):
    """An array, which every process has, as a DTensor: each takes its own piece, and nothing is sent."""
    return distribute_tensor(torch.as_tensor(array), along, placements, src_data_rank=None)


class DTensorDecoder(Decoder):
    """`Decoder` with DTensors as weights: every process calls it with the same tokens, and gets the same.

    Its layers are those of one process. `mesh.sent` has the counts. The caches' heads are divided as the weights are.
    """

    def __init__(self, config: ModelConfig, mesh: DeviceMesh):
        super().__init__(config)
        self.mesh = mesh

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """As `Decoder.read`; the hidden states are whole, a tensor."""
        # PyTorch's kernel for attention on CPUs has no rule for DTensors; the operations that it stands for have one.
        with self.mesh.counted(), sdpa_kernel(SDPBackend.MATH):
            return _whole(super().read(tokens, cache, valid, token_types, record))

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V), which are whole."""
        with self.mesh.counted():
            return _whole(super().logits(hidden))

    def without_gradients(self):
        """Compute without recording gradients. In PyTorch's inference mode DTensors reach operations undivided."""
        return torch.no_grad()

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache:
        """An empty cache whose key/value heads are divided among the processes, where there are enough of them.

        cache_dtype: "float32", "bfloat16" or "float16"; default: the type of the activations.
        """
        dtype = choose_cache_dtype(cache_dtype, self.dtype_name, False)
        if dtype == "int4":
            raise ValueError("a cache in 4 bits packs numbers by operations that DTensors do not have: choose another")
        storage = _DividedStorage(self.config, batch_size, layer_slots(self.config, max_length), dtype, self.mesh)
        return KVCache(self.config, batch_size, max_length, storage=storage)


class _DividedStorage(Storage):
    """A `Storage` whose key/value heads are divided among the processes of a mesh, where it divides them."""

    def __init__(self, config, batch_size, n_slots, dtype, mesh):
        along = mesh.along(ALL)
        super().__init__(config, batch_size, n_slots, dtype, along.device_type)
        self.addressable = False
        self.tensors = {name: [self._divided(x, along) for x in layers] for name, layers in self.tensors.items()}

    @property
    def nbytes(self) -> int:
        """The bytes of this process's own pieces."""
        return sum(tensor.to_local().nbytes for tensors in self.tensors.values() for tensor in tensors)

    def _divided(self, x, along):
        place = Replicate() if x.shape[2] % along.size() else Shard(2)  # (B, n_slots, K, ...)
        return zeros(x.shape, dtype=x.dtype, device_mesh=along, placements=[place])


def parallel_from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], mesh: DeviceMesh, dtype: str = "float32"
) -> DTensorDecoder:
    """The decoder of a canonical dictionary, of which each process of the mesh keeps its own pieces.

    A weight is divided along the axis that `tfguide.sharding.cuts.divided_axis` names. Fewer key/value heads than
    processes are repeated, so that each process has one: `config.n_kv_heads` of the model is then their number.
    Raises ValueError as `from_weights`, for sizes that the processes do not divide, and for a mixture of experts, whose
    tokens are counted by an operation (`bincount`) that has no rule for DTensors.
    """
    check_config(config, "decoder")
    check_weights(config, weights)
    check_dtype(dtype)
    check_processes(config, mesh.n)
    if config.experts is not None:
        raise ValueError("a mixture of experts cannot be divided as DTensors: expected a decoder without experts")
    copies = 1 if config.latent is not None else max(1, mesh.n // config.n_kv_heads)
    d_head = config.d_head
    config = config.replace(n_kv_heads=config.n_kv_heads * copies)
    with left_out():
        model = DTensorDecoder(config, mesh).to(getattr(torch, dtype))
    along = mesh.along(ALL)
    for name, weight in weight_table(config).items():
        path, _, attribute = name.rpartition(".")
        array, axis, layer = weights[name], divided_axis(weight), model.get_submodule(path)
        if axis is not None and weight.axes[axis][0] == "K" and copies > 1:
            heads = np.split(array, array.shape[axis] // d_head, axis)
            array = np.concatenate([head for head in heads for _ in range(copies)], axis)
        if axis == 0 and len(weight.axes) == 2:  # inputs or words are divided: each process has a summand
            layer.register_forward_hook(_sum)
        if weight.is_matrix:  # nn.Linear keeps (out, in)
            array, axis = array.T, None if axis is None else 1 - axis
        kept = torch.float32 if stays_float32(config, name, dtype) else getattr(torch, dtype)
        piece = _placed(array, along, Replicate() if axis is None else Shard(axis)).to(kept)
        layer.register_parameter(attribute, nn.Parameter(piece, requires_grad=False))
    return model.eval()


def _sum(layer, inputs, y):
    """A hook that adds the summands of all processes at once, or each use of the sum would add them again."""
    return y.redistribute(placements=[Replicate()])


def _whole(x):
    """A result of a layer as a tensor that every process has."""
    return x.full_tensor() if isinstance(x, DTensor) else x
