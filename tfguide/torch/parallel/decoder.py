"""A decoder whose weights are DTensors: the layers are those of one process, and DTensors carry the forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard, zeros
from torch.nn.attention import SDPBackend, sdpa_kernel

from tfguide.checks.shapes import check_config
from tfguide.config import ModelConfig
from tfguide.dtypes import choose_cache_dtype
from tfguide.generation.paged import check_paged_dtype
from tfguide.generation.rings import layer_slots
from tfguide.sharding.cuts import divided_axis
from tfguide.sharding.mesh import ALL
from tfguide.torch.cache import KVCache, Storage
from tfguide.torch.linear import left_out
from tfguide.torch.models import Decoder
from tfguide.torch.parallel.devices import DeviceMesh, placed
from tfguide.weights import check_dtype, check_weights, stays_float32, weight_table


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
        """An empty cache whose key/value heads are divided among the processes; latents have none, and are on all.

        cache_dtype: "float32", "bfloat16", "float16" or "int8"; default: the type of the activations. Raises as
        `KVCache`, and ValueError for "int4", whose tensors are packed in another way.
        """
        storage = self.new_storage(batch_size, layer_slots(self.config, max_length), cache_dtype)
        return KVCache(self.config, batch_size, max_length, storage=storage)

    def new_storage(self, batch_size: int, n_slots: int | Sequence[int], cache_dtype: str | None = None) -> Storage:
        """The tensors of a cache with `n_slots` in every layer, or of a list by layer, divided as in `new_cache`."""
        dtype = check_paged_dtype(choose_cache_dtype(cache_dtype, self.dtype_name, False))
        return _DividedStorage(self.config, batch_size, n_slots, dtype, self.mesh)


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
    _check_divisible(config, mesh.n)
    copies = 1 if config.latent is not None else max(1, mesh.n // config.n_kv_heads)
    config = config.replace(n_kv_heads=config.n_kv_heads * copies)
    with left_out():
        model = DTensorDecoder(config, mesh).to(getattr(torch, dtype))
    along = mesh.along(ALL)
    for name, weight in weight_table(config).items():
        path, _, attribute = name.rpartition(".")
        array, axis, layer = weights[name], divided_axis(weight), model.get_submodule(path)
        if axis is not None and weight.axes[axis][0] == "K" and copies > 1:
            heads = np.split(array, config.n_kv_heads // copies, axis)
            array = np.concatenate([head for head in heads for _ in range(copies)], axis)
        if axis == 0 and len(weight.axes) == 2:  # inputs or words are divided: each process has a summand
            layer.register_forward_hook(_sum)
        if weight.is_matrix:  # nn.Linear keeps (out, in)
            array, axis = array.T, None if axis is None else 1 - axis
        kept = torch.float32 if stays_float32(config, name, dtype) else getattr(torch, dtype)
        piece = placed(array, along, Replicate() if axis is None else Shard(axis))
        piece = piece.to(kept, copy=True, memory_format=torch.contiguous_format)  # else a view of the caller's array
        layer.register_parameter(attribute, nn.Parameter(piece, requires_grad=False))
    return model.eval()


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


def _check_divisible(config, n):
    """Raises ValueError where DTensors cannot carry a decoder: a view by heads needs as many on each process."""
    if config.experts is not None:
        raise ValueError("a mixture of experts cannot be divided as DTensors: expected a decoder without experts")
    H, K = config.n_heads, config.n_heads if config.latent is not None else config.n_kv_heads
    can = [p for p in range(1, H + 1) if H % p == 0 and (K % p == 0 or p % K == 0)]
    if n not in can:
        raise ValueError(
            f"{n} processes cannot divide {H} heads and {K} key/value heads evenly: choose {', '.join(map(str, can))}"
        )


def _sum(layer, inputs, y):
    """A hook that adds the summands of all processes at once, or each use of the sum would add them again."""
    return y.redistribute(placements=[Replicate()])


def _whole(x):
    """A result of a layer as a tensor that every process has."""
    return x.full_tensor() if isinstance(x, DTensor) else x
