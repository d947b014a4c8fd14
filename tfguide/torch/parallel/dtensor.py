"""The layouts once more, by DTensor: the code says how tensors are placed, and PyTorch chooses what processes send."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import Replicate, Shard

from tfguide.checks.values import check_choice
from tfguide.sharding.layouts import LAYOUTS
from tfguide.sharding.mesh import ALL, GATHERED, X, Y, Z
from tfguide.torch.parallel.decoder import parallel_from_weights
from tfguide.torch.parallel.devices import DeviceMesh, placed

__all__ = ["DeviceMesh", "attention", "feed_forward", "parallel_from_weights"]


def feed_forward(
    mesh: DeviceMesh,
    layout: str,
    x: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    gate: np.ndarray | None = None,
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> np.ndarray:
    """`activation(x up) down`, or `(activation(x gate) * x up) down`, computed by the devices in one of LAYOUTS.

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
    whole = placed(x, along, Shard(1)).redistribute(placements=[Replicate()])
    hidden = [whole @ placed(weight, along, Shard(1)) for weight in gates]  # (tokens, F), divided
    y = activate(hidden) @ placed(down, along, Shard(0))  # (tokens, D), a summand on each
    return y.redistribute(placements=[Shard(1)])


def _two_dimensions(mesh, x, gates, down, activate):
    """Features of the model are divided along X, hidden ones along Y and Z."""
    along = mesh.along((X,), (Y, Z))
    mine = placed(x, along, Shard(1), Shard(1)).redistribute(placements=[Shard(1), Replicate()])
    hidden = [mine @ placed(weight, along, Shard(0), Shard(1)) for weight in gates]  # sums over X are still missing
    # Where they are complete, X divides tokens. The other version divides hidden features once more, and sends as much.
    hidden = [h.redistribute(placements=[Shard(0), Shard(1)]) for h in hidden]
    activated = activate(hidden).redistribute(placements=[Replicate(), Shard(1)])
    y = activated @ placed(down, along, Shard(1), Shard(0))  # sums over Y and Z are missing
    return y.redistribute(placements=[Shard(1), Shard(1)])


def _weight_gathered(mesh, axes, x, gates, down, activate):
    """Tokens are divided along `axes`, over which the weights are gathered; features along the other axes."""
    # Of one dimension, what is gathered must lie within what stays divided: Y within Z.
    order = [(X,), (Z,), (Y,)] if axes == (X, Y) else [(X,), (Y, Z)]
    order = [group for group in order if mesh.count(group) > 1] or [ALL]  # every dimension costs time to plan
    along = mesh.along(*order)
    gathered = [group[0] in axes for group in order]

    def whole(weight, model_dim, hidden_dim):
        stored = [Shard(model_dim if X in group else hidden_dim) for group in order]
        stays = [Replicate() if one else place for one, place in zip(gathered, stored, strict=True)]
        return placed(weight, along, *stored).redistribute(placements=stays)

    firsts = [whole(weight, 0, 1) for weight in gates]  # (D, F), F along the axes that are left
    last = whole(down, 1, 0)
    divided = [Shard(0) if one else Shard(1) for one in gathered]
    tokens = [Shard(0) if one else Replicate() for one in gathered]
    mine = placed(x, along, *divided).redistribute(placements=tokens)
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
    """Multi-head attention by the devices, the caches divided by "head" or by "batch".

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
        whole = placed(x, along, Shard(2)).redistribute(placements=[Replicate()])
        queries = (whole @ placed(query, along, Shard(1))).unflatten(2, (n_heads, -1))  # (B, T, H, d), by heads
        if how == "head":
            place = Shard(1) if is_divided else Replicate()
            pair = [(whole @ placed(w, along, place)).unflatten(2, (n_kv_heads, -1)) for w in (key, value)]
            if not is_divided:  # each keeps what its own query heads need
                pair = [_repeated(heads, n_heads).redistribute(placements=[Shard(2)]) for heads in pair]
            results = attend(queries, *pair)
        else:
            sequences = whole.redistribute(placements=[Shard(0)])  # nothing is sent: each has them whole
            pair = [(sequences @ placed(w, along, Replicate())).unflatten(2, (n_kv_heads, -1)) for w in (key, value)]
            results = attend(queries.redistribute(placements=[Shard(0)]), *pair)
            results = results.redistribute(placements=[Shard(2)])
        y = results.flatten(2) @ placed(output, along, Shard(0))
        y = y.redistribute(placements=[Shard(2)])
    return y.full_tensor().cpu().numpy()


def _repeated(heads, n_heads):
    """Each key/value head as often as there are query heads for it: (B, T, K, d) to (B, T, H, d)."""
    B, T, K, d = heads.shape
    return heads[:, :, :, None].expand(B, T, K, n_heads // K, d).flatten(2, 3)
