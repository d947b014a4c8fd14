"""The layouts of Pope et al., and whole decoders, by DTensor: on virtual devices of one process or of several."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from tfguide.checks.shapes import check_config
from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.sharding.cuts import piece_of
from tfguide.sharding.layouts import LAYOUTS
from tfguide.sharding.mesh import ALL, GATHERED, X, Y, Z
from tfguide.tensorflow.cache import KVCache, Storage
from tfguide.tensorflow.models import Decoder
from tfguide.tensorflow.parallel.devices import LEADING, UNCUT, DeviceMesh
from tfguide.tensorflow.stack import DecoderStack
from tfguide.tensorflow.weighted import policy, variable_of
from tfguide.weights import check_dtype, check_weights, weight_table


def feed_forward(
    mesh: DeviceMesh,
    layout: str,
    x: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    gate: np.ndarray | None = None,
    activation: Callable[[tf.Tensor], tf.Tensor] = tf.nn.relu,
) -> np.ndarray:
    """`activation(x up) down`, or `(activation(x gate) * x up) down`, computed by the devices in one of LAYOUTS.

    x: (tokens, D), its features divided among all devices before and after; up, gate: (D, F); down: (F, D). Returns
    (tokens, D). `mesh.sent` has the counts, under the names of `ffn_communication`. Source: Pope et al. 2022, figure 2
    and appendix A. Raises ValueError for an unknown layout and for sizes that the mesh does not divide.
    """
    check_choice("layout", layout, LAYOUTS)
    gates = [up] if gate is None else [gate, up]

    def activate(hidden):
        return activation(hidden[0]) if gate is None else activation(hidden[0]) * hidden[1]

    if layout in GATHERED:
        return _weight_gathered(mesh, GATHERED[layout], x, gates, down, activate)
    # Features of the model are divided along X, hidden ones along Y and Z; in one dimension, hidden ones along all.
    inner, outer = ((), ALL) if layout == "1d-ws" else ((X,), (Y, Z))
    mine = mesh.all_gather(mesh.shard(x, dim1=ALL), outer, 1, "gather inputs")  # (tokens, D / X)
    firsts = [mesh.shard(weight, dim0=inner, dim1=outer) for weight in gates]
    hidden = [mine @ first for first in firsts]  # sums over X are still missing
    if inner:
        hidden = [mesh.reduce_scatter(h, inner, 1, "scatter hidden") for h in hidden]
    activated = activate(hidden)
    if inner:
        activated = mesh.all_gather(activated, inner, 1, "gather hidden")  # (tokens, F / (Y Z))
    y = activated @ mesh.shard(down, dim0=outer, dim1=inner)  # (tokens, D / X), sums over Y Z missing
    return _joined(mesh, mesh.reduce_scatter(y, outer, 1, "scatter outputs"), ())


def _weight_gathered(mesh, axes, x, gates, down, activate):
    """Tokens are divided along `axes`, over which the weights are gathered; features along the other axes."""
    rest = tuple(axis for axis in ALL if axis not in axes)
    others = tuple(axis for axis in axes if axis != X)

    def gathered(weight, model_dim, hidden_dim):
        weight = mesh.all_gather(weight, (X,), model_dim, "gather weights")
        return mesh.all_gather(weight, others, hidden_dim, "gather weights")

    firsts = [gathered(mesh.shard(weight, dim0=(X,), dim1=(Y, Z)), 0, 1) for weight in gates]  # (D, F / rest)
    last = gathered(mesh.shard(down, dim0=(Y, Z), dim1=(X,)), 1, 0)  # (F / rest, D)
    mine = mesh.shard(x, dim0=axes, dim1=rest)
    if rest:
        mine = mesh.all_gather(mine, rest, 1, "gather inputs")
    y = activate([mine @ first for first in firsts]) @ last
    if rest:
        y = mesh.reduce_scatter(y, rest, 1, "scatter outputs")
    return _joined(mesh, y, axes)


def _joined(mesh, y, axes):
    """The whole (tokens, D) from parts whose tokens are divided along the first axes, features along the others."""
    n = len(axes)
    parts = mesh.unshard(y)  # (X, Y, Z, own tokens, own features)
    parts = parts.transpose(*range(n), LEADING, *range(n, LEADING), LEADING + 1)
    return parts.reshape(math.prod(parts.shape[: n + 1]), -1)


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
    attend: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
) -> np.ndarray:
    """Multi-head attention by the devices, the caches divided by "head" or by "batch".

    x: (B, T, D); query: (D, H d); key, value: (D, K d); output: (H d, D). attend: from heads (b, T, h, d) and
    (b, T, k, d) to (b, T, h, d), as `scaled_dot_product_attention`; each device calls it with its own. Returns
    (B, T, D); `mesh.sent` has the counts, under the names of `attention_communication`. Every device computes the
    queries of its own query heads, and the keys and values that it caches: by "head", those of its own heads (every
    device computes and caches a single shared head); by "batch", all those of its own sequences.
    Source: Pope et al. 2022, figure 4. Raises ValueError if the devices do not divide the heads, or the sequences.
    """
    check_choice("how", how, ("batch", "head"))
    mesh = mesh.line()
    P, (B, T, D), d = mesh.n, x.shape, query.shape[1] // n_heads
    if n_heads % P:
        raise ValueError(f"{P} chips cannot divide {n_heads} heads evenly")

    def heads(x, weight):
        h = tf.reshape(x, (*x.shape[:LEADING], -1, D)) @ weight
        return tf.reshape(h, (*h.shape[:LEADING], -1, T, h.shape[-1] // d, d))

    everything = mesh.all_gather(mesh.shard(x, dim2=(X,)), (X,), 2, "gather inputs")  # (B, T, D)
    queries = heads(everything, mesh.shard(query, dim1=(X,)))  # (B, T, H / P, d)
    if how == "head":
        needed = [h * n_kv_heads // n_heads for h in range(n_heads)]  # the key head of each query head

        def own(weight):
            return mesh.shard(weight.reshape(D, n_kv_heads, d)[:, needed].reshape(D, -1), dim1=(X,))

        results = mesh.locally(attend, queries, heads(everything, own(key)), heads(everything, own(value)))
    else:
        queries = mesh.all_to_all(queries, X, 0, 2, "queries to sequences")  # (B / P, T, H, d)
        sequences = mesh.cut(everything, X, 0)
        keys, values = (heads(sequences, mesh.whole(weight)) for weight in (key, value))
        results = mesh.all_to_all(mesh.locally(attend, queries, keys, values), X, 2, 0, "results to heads")
    y = tf.reshape(results, (P, 1, 1, B * T, n_heads // P * d)) @ mesh.shard(output, dim0=(X,))
    y = mesh.unshard(mesh.reduce_scatter(y, (X,), 1, "scatter outputs"))  # (P, 1, 1, B T, D / P)
    return y[:, 0, 0].transpose(1, 0, 2).reshape(B, T, D)


POSITIONS = ("none", "learned", "rotary", "alibi")  # that are computed without the weights, or looked up


class ParallelDecoder(Decoder):
    """`Decoder`, computed by all devices of a mesh, each with its own heads, hidden features and words.

    Inputs, hidden states and logits are ordinary tensors, which every device has. `pieces`: the weights by name, as
    tensors of DTensor's. The process also keeps the whole ones, which other methods read.
    """

    def __init__(self, config: ModelConfig, mesh: DeviceMesh):
        super().__init__(config)
        self.devices, self.pieces = mesh.line().mesh, {}
        self.decoder = _Stack(config, config.n_layers, self.devices)

    def fill(self, weights: Mapping[str, np.ndarray]) -> Self:
        """Copy the weights of a checked dictionary into the model, and its pieces to the devices."""
        super().fill(weights)
        table, n = weight_table(self.config), self.devices.size
        pieces = {name: piece_of(self.config, weight, n, 0) for name, weight in table.items()}
        arrays = {name: tf.convert_to_tensor(variable_of(self, name)) for name in table}
        self.pieces = {name: _divided(array, pieces[name], n, self.devices) for name, array in arrays.items()}
        return self

    def trunk(self, tokens, positions, valid=None, token_types=None, record=None, cache=None, watch=None):
        """As `Decoder.trunk`."""
        tokens, positions = _copied(tokens, self.devices), _copied(positions, self.devices)
        token_types = None if token_types is None else _copied(token_types, self.devices)
        with self._on_devices():
            return _one(super().trunk(tokens, positions, valid, token_types, record, cache, watch))

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V)."""
        with self._on_devices():
            return _one(super().logits(_copied(hidden, self.devices)))

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache:
        """An empty cache, of which each device keeps the heads that it computes. Raises ValueError as `KVCache`.

        cache_dtype: "float32", "bfloat16" or "float16"; default: the type of the activations.
        """
        dtype = cache_dtype or self.compute_dtype
        check_dtype(dtype)
        storage = _Storage(self.config, batch_size, max_length, dtype)
        return _Cache(self.config, batch_size, max_length, dtype, storage)

    @contextlib.contextmanager
    def _on_devices(self):
        """Within the block, operations are DTensor's, and Keras reads the pieces where a layer asks for its weights."""
        pieces = [(variable_of(self, name), piece) for name, piece in self.pieces.items()]
        with dtensor.default_mesh(self.devices), keras.StatelessScope(pieces):
            yield


class _Stack(DecoderStack):
    """A stack whose masks and angles are computed once, as ordinary tensors, and copied to the devices."""

    def __init__(self, config, n_layers, devices):
        super().__init__(config, n_layers)
        self.devices = devices

    def block_terms(self, positions, valid=None, cache=None):
        with tf.device("CPU:0"):
            terms = super().block_terms(dtensor.unpack(positions)[0], valid, cache)
        kinds = {id(kind): tf.nest.map_structure(self._copied, _tensors(kind)) for kind in terms}
        return [kinds[id(kind)] for kind in terms]

    def _copied(self, x):
        return _copied(x, self.devices)


def _tensors(terms):
    """What a block takes, with a mask as the tensor in it."""
    return terms | {"visible": terms["visible"].visible}


class _Cache(KVCache):
    has_rings = False


class _Storage(Storage):
    """Tensors on each device, of the heads that the layer computes there."""

    def write(self, layer, places, parts):
        self.layouts = [dtensor.fetch_layout(part) for part in parts]
        with tf.device("CPU:0"):
            for tensors, part in zip(self.tensors.values(), parts, strict=True):
                own = [tf.cast(one, self.dtype) for one in dtensor.unpack(part)]
                if not isinstance(tensors[layer], list):  # how many heads a device has is known from the first call on
                    slots = tensors[layer].shape[:2]
                    tensors[layer] = [tf.Variable(tf.zeros((*slots, *one.shape[2:]), self.dtype)) for one in own]
                for tensor, one in zip(tensors[layer], own, strict=True):
                    tensor.scatter_nd_update(places, one)

    def read(self, layer, end, dtype):
        with tf.device("CPU:0"):
            own = [[tf.cast(one[:, :end], dtype) for one in tensors[layer]] for tensors in self.tensors.values()]
        return tuple(dtensor.pack(parts, layout) for parts, layout in zip(own, self.layouts, strict=True))


def parallel_from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], mesh: DeviceMesh, dtype: str = "float32"
) -> ParallelDecoder:
    """The decoder of a canonical dictionary, of which each device of the mesh keeps its own pieces.

    Raises ValueError as `check_processes` and `from_weights`, and for sinusoidal and relative positions, whose tables
    are not tensors of DTensor's.
    """
    check_config(config, "decoder")
    check_choice("positions", config.positions, POSITIONS)
    check_weights(config, weights)
    check_dtype(dtype)
    with policy(dtype):
        return ParallelDecoder(config, mesh).fill(weights)


def _divided(array, piece, n, devices):
    """A weight of which each device has its own piece; `piece`: that of the first.

    All have all of it where the pieces are not distinct or not equal: key/value heads that are fewer than the devices,
    and words that they do not divide.
    """
    specs, places = [UNCUT] * len(array.shape), devices.local_device_locations()
    if piece.copies == 1 and array.shape[piece.axis] % n == 0:
        specs[piece.axis] = "x"
        pieces = tf.split(array, n, piece.axis)
        pieces = [pieces[place["x"]] for place in places]
    else:
        pieces = [array] * len(places)
    return dtensor.pack(pieces, dtensor.Layout(specs, devices))


def _copied(x, devices):
    """A tensor that every device has."""
    return None if x is None else dtensor.copy_to_mesh(x, dtensor.Layout([UNCUT] * len(x.shape), devices))


def _one(x):
    """What every device has, as an ordinary tensor."""
    layout = dtensor.fetch_layout(x)
    if not layout.is_fully_replicated():
        x = dtensor.relayout(x, dtensor.Layout([UNCUT] * len(x.shape), layout.mesh))
    return dtensor.unpack(x)[0]
