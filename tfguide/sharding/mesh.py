"""A mesh of chips simulated in NumPy: it runs the layouts of Pope et al. and counts every element sent.

A sharded array is a dictionary from a chip's coordinates (x, y, z) to the part on that chip. Only three collectives
move data; each counts the elements that one chip sends on a ring of p chips, (p - 1) / p of the larger side.

The layouts themselves, `feed_forward` and `attention`, are written for any mesh with these methods and for the tensors
of any library. `tfguide.torch.parallel.mesh.ProcessMesh` is one whose chips are processes: each has its own part only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

from tfguide.checks.values import check_choice
from tfguide.sharding.layouts import LAYOUTS, check_mesh

X, Y, Z = 0, 1, 2
ALL = (X, Y, Z)
GATHERED = {"wg-x": (X,), "wg-xy": (X, Y), "wg-xyz": ALL}

Sharded = dict[tuple[int, int, int], Any]


class Mesh:
    """X x Y x Z chips. `sent`: the elements that one chip has sent, by the name of the step. Raises ValueError.

    `chips`: the coordinates of those whose parts this mesh holds, here of all.
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = check_mesh(sizes)
        self.chips = list(product(*(range(size) for size in self.sizes)))
        self.sent: dict[str, float] = {}

    def count(self, axes: Sequence[int]) -> int:
        """The chips along some axes."""
        return math.prod(self.sizes[axis] for axis in axes)

    def index(self, chip: tuple[int, int, int], axes: Sequence[int]) -> int:
        """The number of a chip among those that differ from it only along the axes, the last of which counts first."""
        index = 0
        for axis in axes:
            index = index * self.sizes[axis] + chip[axis]
        return index

    def shard(self, array: Any, **dims: Sequence[int]) -> Sharded:
        """Divide an array among the chips: `dim0=(X,)` divides its first dimension along X, and so on.

        The parts are views of the array: nothing is copied. Raises ValueError if a dimension cannot be divided evenly.
        """
        parts = {}
        for chip in self.chips:
            part = array
            for name, axes in dims.items():
                part = self._own(part, int(name[3:]), axes, chip)
            parts[chip] = part
        return parts

    def unshard(self, parts: Sharded, **dims: Sequence[int]) -> Any:
        """The whole array from parts that `shard` would give; not counted, as it only serves inspection."""
        for name, axes in dims.items():
            parts = self.all_gather(parts, axes, int(name[3:]), None)
        return parts[self.chips[0]]

    def all_gather(self, parts: Sharded, axes: Sequence[int], dim: int, step: str | None) -> Sharded:
        """Every chip of a group gets the parts of all chips, joined along `dim`. step None: not counted."""
        whole = {}
        for group in self._groups(axes):
            joined = np.concatenate([parts[chip] for chip in group], axis=dim)
            whole |= dict.fromkeys(group, joined)
        if step is not None:
            self._count(step, joined.size, axes)
        return whole

    def reduce_scatter(self, parts: Sharded, axes: Sequence[int], dim: int, step: str) -> Sharded:
        """The sum over a group, divided among it along `dim`."""
        shares = {}
        for group in self._groups(axes):
            total = sum(parts[chip] for chip in group)
            shares |= {chip: self._own(total, dim, axes, chip) for chip in group}
        self._count(step, total.size, axes)
        return shares

    def all_to_all(self, parts: Sharded, axes: Sequence[int], split: int, join: int, step: str) -> Sharded:
        """Change the division of an array from the dimension `join` to the dimension `split`."""
        moved = {}
        for group in self._groups(axes):
            for chip in group:
                moved[chip] = np.concatenate([self._own(parts[other], split, axes, chip) for other in group], axis=join)
        self._count(step, moved[self.chips[0]].size, axes)
        return moved

    def _groups(self, axes):
        """Groups of chips that differ only along the axes, in the order of their index there."""
        groups: dict[tuple, list] = {}
        for chip in self.chips:
            groups.setdefault(tuple(chip[axis] for axis in ALL if axis not in axes), []).append(chip)
        return list(groups.values())

    def _own(self, array, dim, axes, chip):
        p, index = self.count(axes), self.index(chip, axes)
        if array.shape[dim] % p:
            raise ValueError(f"{p} chips cannot divide {array.shape[dim]} evenly: choose sizes that the mesh divides")
        size = array.shape[dim] // p
        return array[(*[slice(None)] * dim, slice(index * size, (index + 1) * size))]

    def _count(self, step, elements, axes):
        p = self.count(axes)
        self.sent[step] = self.sent.get(step, 0.0) + elements * (p - 1) / p


def relu(h: Any) -> Any:
    """What is above 0, of an array or a tensor of any library."""
    return h * (h > 0)


def feed_forward(
    mesh: Mesh,
    layout: str,
    x: Any,
    up: Any,
    down: Any,
    gate: Any = None,
    activation: Callable[[Any], Any] = relu,
) -> Any:
    """`activation(x up) down`, or `(activation(x gate) * x up) down`, carried out on the mesh in one of LAYOUTS.

    x: (tokens, D), its features divided among all chips before and after; up, gate: (D, F); down: (F, D). Returns
    (tokens, D). All are arrays of NumPy, or tensors where the mesh has them. `mesh.sent` has the counts, under the
    names of `ffn_communication`. Source: Pope et al. 2022, figure 2 and appendix A.
    Raises ValueError for an unknown layout and for sizes that the mesh does not divide.
    """
    check_choice("layout", layout, LAYOUTS)
    gates = [up] if gate is None else [gate, up]

    def activate(hidden):
        return activation(hidden[0]) if gate is None else activation(hidden[0]) * hidden[1]

    if layout in GATHERED:
        return _weight_gathered(mesh, GATHERED[layout], x, gates, down, activate)
    # Features of the model are divided along X, hidden ones along Y and Z; in one dimension, hidden ones along all.
    inner, outer = ((), ALL) if layout == "1d-ws" else ((X,), (Y, Z))
    mine = mesh.shard(x, dim1=(*inner, *outer))
    mine = mesh.all_gather(mine, outer, 1, "gather inputs")  # (tokens, D / X)
    firsts = [mesh.shard(weight, dim0=inner, dim1=outer) for weight in gates]
    hidden = [{c: mine[c] @ first[c] for c in mesh.chips} for first in firsts]  # sums over X are still missing
    if inner:
        hidden = [mesh.reduce_scatter(h, inner, 1, "scatter hidden") for h in hidden]
    activated = {c: activate([h[c] for h in hidden]) for c in mesh.chips}
    if inner:
        activated = mesh.all_gather(activated, inner, 1, "gather hidden")  # (tokens, F / (Y Z))
    last = mesh.shard(down, dim0=outer, dim1=inner)
    y = {c: activated[c] @ last[c] for c in mesh.chips}  # (tokens, D / X), sums over Y Z missing
    y = mesh.reduce_scatter(y, outer, 1, "scatter outputs")
    return mesh.unshard(y, dim1=(*inner, *outer))


def _weight_gathered(mesh, axes, x, gates, down, activate):
    """Tokens are divided along `axes`, over which the weights are gathered; features along the other axes."""
    rest = tuple(axis for axis in ALL if axis not in axes)
    firsts = [mesh.shard(weight, dim0=(X,), dim1=(Y, Z)) for weight in gates]
    last = mesh.shard(down, dim0=(Y, Z), dim1=(X,))
    firsts = [_whole(mesh, first, axes, 0, 1) for first in firsts]  # (D, F / rest)
    last = _whole(mesh, last, axes, 1, 0)  # (F / rest, D)
    mine = mesh.shard(x, dim0=axes, dim1=rest)
    if rest:
        mine = mesh.all_gather(mine, rest, 1, "gather inputs")
    hidden = [{c: mine[c] @ first[c] for c in mesh.chips} for first in firsts]
    y = {c: activate([h[c] for h in hidden]) @ last[c] for c in mesh.chips}
    if rest:
        y = mesh.reduce_scatter(y, rest, 1, "scatter outputs")
    return mesh.unshard(y, dim1=rest, dim0=axes)


def _whole(mesh, weight, axes, model_dim, hidden_dim):
    """Gather a weight (D along X, F along Y and Z) over some axes.

    Two gathers in sequence send as much as a single one over both axes: of m elements m (1 - 1 / X) / Y + m (1 - 1 /
    Y). They permute the hidden features, in the same way for the first and the last matrix.
    """
    parts = mesh.all_gather(weight, (X,), model_dim, "gather weights")
    others = tuple(axis for axis in axes if axis != X)
    return mesh.all_gather(parts, others, hidden_dim, "gather weights") if others else parts


def attention(
    mesh: Mesh,
    how: str,
    x: Any,
    query: Any,
    key: Any,
    value: Any,
    output: Any,
    n_heads: int,
    n_kv_heads: int,
    attend: Callable[[Any, Any, Any], Any],
) -> Any:
    """Multi-head attention on the mesh, the caches divided by "head" or by "batch".

    x: (B, T, D); query: (D, H d); key, value: (D, K d); output: (H d, D). attend: from heads (b, T, h, d) and
    (b, T, k, d) to (b, T, h, d), as the reference's `scaled_dot_product_attention`. Returns (B, T, D); `mesh.sent` has
    the counts, under the names of `attention_communication`. Every chip computes the queries of its own query heads,
    and the keys and values that it caches: by "head", those of its own heads (every chip computes and caches a single
    shared head); by "batch", all those of its own sequences. Source: Pope et al. 2022, figure 4.
    Raises ValueError if the chips do not divide the heads, or the sequences.
    """
    check_choice("how", how, ("batch", "head"))
    P, d = mesh.count(ALL), query.shape[1] // n_heads
    whole = mesh.all_gather(mesh.shard(x, dim2=ALL), ALL, 2, "gather inputs")
    firsts, last = mesh.shard(query, dim1=ALL), mesh.shard(output, dim0=ALL)
    if n_heads % P:
        raise ValueError(f"{P} chips cannot divide {n_heads} heads evenly")
    heads = {c: _heads(whole[c] @ firsts[c], d) for c in mesh.chips}  # (B, T, H / P, d)
    if how == "head":
        results = {}
        for chip in mesh.chips:
            first = mesh.index(chip, ALL) * (n_heads // P)
            needed = [h * n_kv_heads // n_heads for h in range(first, first + n_heads // P)]
            keys, values = (_heads(whole[chip] @ weight, d)[:, :, needed] for weight in (key, value))
            results[chip] = attend(heads[chip], keys, values)
    else:
        queries = mesh.all_to_all(heads, ALL, 0, 2, "queries to sequences")  # (B / P, T, H, d)
        sequences = mesh.shard(x, dim0=ALL)  # each chip already has them whole, since the gather above
        results = {
            c: attend(queries[c], _heads(sequences[c] @ key, d), _heads(sequences[c] @ value, d)) for c in mesh.chips
        }
        results = mesh.all_to_all(results, ALL, 2, 0, "results to heads")
    y = {c: results[c].reshape(*results[c].shape[:2], -1) @ last[c] for c in mesh.chips}
    return mesh.unshard(mesh.reduce_scatter(y, ALL, 2, "scatter outputs"), dim2=ALL)


def _heads(x, d):
    return x.reshape(*x.shape[:2], -1, d)
