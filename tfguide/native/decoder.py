"""The kernels behind `tfguide.torch.accelerate` and `tfguide.tensorflow.accelerate`, on plain addresses.

Neither framework is imported here. A framework hands over where its weights lie; nothing is copied but vectors of D
numbers. The structures mirror those of decoder.cpp and linear.h.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfguide.config import ACTIVATIONS, PLACEMENTS, ModelConfig
from tfguide.dtypes import BITS
from tfguide.frequencies import alibi_slopes, rotary_frequencies, sinusoidal_frequencies
from tfguide.native.library import library, use_huge_pages

TYPES = ("float32", "bfloat16", "float16")
FORMATS = (
    *(f"{dtype} rows" for dtype in TYPES), *(f"{dtype} columns" for dtype in TYPES), "int8", "int4", "int8 a8",
    "int4 a8",
)  # fmt: skip
MAX_ROWS = 16  # more new tokens than this in one call are the work of a matrix product, which the frameworks do better
AT_ONCE = 128  # rows of a prompt in one pass of the kernels over the weights


@dataclass(frozen=True)
class Matrix:
    """Where a linear layer's weight lies, and how: one of FORMATS. `owner` keeps the memory alive."""

    address: int
    format: str
    d_in: int
    d_out: int
    scale: int = 0  # address; see tfguide.compress.packing
    group: int = 0
    bias: np.ndarray | None = None
    owner: Any = field(default=None, repr=False)

    @property
    def n_bytes(self) -> int:
        """The bytes of the weight; scales are not counted."""
        return self.d_in * self.d_out * BITS[self.format.split()[0]] // 8


class _Linear(Structure):
    _fields_ = [
        ("weight", c_void_p), ("scale", c_void_p), ("bias", c_void_p), ("in_", c_int64), ("out", c_int64),
        ("format", c_int32), ("group", c_int32),
    ]  # fmt: skip


class Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class _Layer(Structure):
    _fields_ = [
        ("attention_norm", Norm), ("feed_forward_norm", Norm),
        *((name, _Linear) for name in ("query", "key", "value", "output", "gate", "up", "down")),
    ]  # fmt: skip


class _Model(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_ff")),
        *((name, c_int32) for name in ("is_rms", "placement", "activation", "window", "embedding_type")),
        *((name, c_float) for name in ("eps", "embedding_scale", "attention_scale")),
        *((name, c_void_p) for name in ("embedding", "added", "slopes")),
        ("embedding_norm", Norm), ("final_norm", Norm), ("layers", POINTER(_Layer)),
    ]  # fmt: skip


class _Call(Structure):
    _fields_ = [
        ("tokens", c_void_p), ("starts", c_void_p), ("batch", c_int64), ("n_tokens", c_int64), ("max_length", c_int64),
        *((name, c_void_p) for name in ("keys", "values", "hidden", "positions", "cos", "sin")),
        ("cache_type", c_int32),
    ]  # fmt: skip


class NativeDecoder:
    """A decoder-only model for the C++ kernels.

    embedding: (V, D) by address and type; matrices: by canonical name without ".weight"; vectors: the norms, biases
    and small tables by canonical name, float32 arrays; threads: how many, all cores that the process may use unless
    told. Raises ValueError for a model with T5's relative positions, or not decoder-only; NativeUnavailable.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Matrix,
        matrices: Mapping[str, Matrix],
        vectors: Mapping[str, np.ndarray],
        threads: int | None = None,
    ):
        check(config)
        self.config, self.threads = config, threads or cores()
        self._library = library()
        for matrix in {matrix.address: matrix for matrix in matrices.values()}.values():
            use_huge_pages(matrix.address, matrix.n_bytes)
        self._kept: list[Any] = [embedding, dict(matrices)]
        self._vectors = {name: self._keep(vector) for name, vector in vectors.items()}
        self._layers = (_Layer * config.n_layers)(*(self._layer(i, matrices) for i in range(config.n_layers)))
        self._model = self._describe(embedding)
        self._tables = _PositionTables(0, {})
        # Integers times integers: no library multiplies them as fast, so there the kernels read prompts of any length.
        self._most = math.inf if all(matrix.format.endswith("a8") for matrix in matrices.values()) else MAX_ROWS

    def takes(self, n_tokens: int) -> bool:
        """Whether the kernels are the right ones to read so many new tokens, of all rows together."""
        return n_tokens <= self._most

    def step(self, tokens: np.ndarray, starts: np.ndarray, cache: NativeCache) -> np.ndarray:
        """The hidden states (B, T, D), float32, of new tokens (B, T) whose rows begin at positions `starts` (B,).

        Their keys and values are written into the cache. Tokens and positions must have been checked. Nothing of a
        call is kept for the next one, so every thread may have a cache of its own. What is computed for a token does
        not depend on the others that come with it, to the last bit where the weights have 8-bit activations.
        """
        starts = np.ascontiguousarray(starts, np.int64)
        length = max(1, AT_ONCE // len(tokens))
        parts = [
            self._pass(tokens[:, at : at + length], starts + at, cache) for at in range(0, tokens.shape[1], length)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _pass(self, tokens, starts, cache):
        tokens = np.ascontiguousarray(tokens, np.int64)
        hidden = np.empty((*tokens.shape, self.config.d_model), np.float32)
        by_position = self._position_tables(cache.max_length)  # held here: another thread may put others in their place
        at = by_position.addresses
        keys, values = ((c_void_p * len(places))(*places) for places in (cache.keys, cache.values))
        call = _Call(
            tokens.ctypes.data, starts.ctypes.data, *tokens.shape, cache.max_length, ctypes.addressof(keys),
            ctypes.addressof(values), hidden.ctypes.data, at.get("positions"), at.get("cos"), at.get("sin"), cache.type,
        )  # fmt: skip
        self._library.tfguide_step(ctypes.byref(self._model), ctypes.byref(call), self.threads)
        return hidden

    def _describe(self, embedding):
        config = self.config
        model = _Model(
            config.n_layers, config.d_model, config.n_heads, config.n_kv_heads, config.d_head, config.d_ff,
            config.norm == "rms", PLACEMENTS.index(config.norm_placement), ACTIVATIONS.index(config.activation),
            config.sliding_window or 0, TYPES.index(embedding.format.split()[0]), config.norm_eps,
            config.embedding_scale, config.attention_scale, embedding.address,
        )  # fmt: skip
        if config.n_token_types:
            model.added = self._address("embedding.token_type.weight")
        if config.positions == "alibi":
            slopes = np.asarray(alibi_slopes(config.n_heads), np.float32)
            model.slopes = self._keep(slopes).ctypes.data
        if config.embedding_norm:
            model.embedding_norm = self._norm("embedding.norm")
        if config.final_norm:
            model.final_norm = self._norm("decoder.final_norm")
        model.layers = self._layers
        return model

    def _position_tables(self, length):
        """The tables by position that a text of this length needs, made anew where those at hand are too short."""
        found = self._tables
        if length > found.length:
            doubled = min(2 * found.length, self.config.max_positions or math.inf)
            found = self._tables = _position_tables(self.config, max(length, doubled), self._vectors)
        return found

    def _layer(self, index, matrices):
        block = f"decoder.layers.{index}"
        layer = _Layer(attention_norm=self._norm(f"{block}.self_attention_norm"))
        if self.config.norm_placement != "parallel":
            layer.feed_forward_norm = self._norm(f"{block}.feed_forward_norm")
        for name in ("query", "key", "value", "output"):
            setattr(layer, name, described(matrices[f"{block}.self_attention.{name}"]))
        for name in ("gate", "up", "down") if self.config.gated else ("up", "down"):
            setattr(layer, name, described(matrices[f"{block}.feed_forward.{name}"]))
        return layer

    def _norm(self, name):
        return Norm(self._address(f"{name}.weight"), self._address(f"{name}.bias"))

    def _address(self, name):
        vector = self._vectors.get(name)
        return None if vector is None else vector.ctypes.data

    def _keep(self, array):
        array = np.ascontiguousarray(array, np.float32)
        self._kept.append(array)
        return array


@dataclass(frozen=True)
class NativeCache:
    """Where the keys and values of each layer lie, (B, max_length, K, d), by address; type: one of TYPES, a number."""

    keys: Sequence[int]
    values: Sequence[int]
    max_length: int
    type: int

    @classmethod
    def of(cls, config: ModelConfig, batch_size: int, keys, values, address, dtype: str) -> NativeCache:
        """The cache in the tensors of each layer as they are now; address: of a tensor, where it begins in memory.

        Raises ValueError for tensors that the kernels cannot use: another shape, an unknown type.
        """
        B, K, d = batch_size, config.n_kv_heads, config.d_head
        shape = tuple(keys[0].shape)
        if len(shape) != 4 or (shape[0], *shape[2:]) != (B, K, d):
            raise ValueError(f"the cache must hold (B, S, K, d) = ({B}, S, {K}, {d}), got {shape}")
        if dtype not in TYPES:
            raise ValueError(f"the fast decoder takes a cache of {', '.join(TYPES)}, got {dtype}")
        return cls([address(key) for key in keys], [address(value) for value in values], shape[1], TYPES.index(dtype))


class _PositionTables:
    """Arrays by name with a row for each position, and where they lie. They are never changed, only replaced."""

    def __init__(self, length: int, arrays: Mapping[str, np.ndarray]):
        self.length = length
        self._arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
        self.addresses = {name: array.ctypes.data for name, array in self._arrays.items()}


def _position_tables(config, length, vectors):
    positions = np.arange(length, dtype=np.float64)[:, None]
    if config.positions == "learned":
        return _PositionTables(config.max_positions, {"positions": vectors["embedding.position.weight"]})
    if config.positions == "rotary":
        angles = positions * rotary_frequencies(config.d_head, config.rope_theta, config.rope_scaling)
        return _PositionTables(length, {"cos": np.cos(angles), "sin": np.sin(angles)})
    if config.positions == "sinusoidal":
        angles = positions * sinusoidal_frequencies(config.d_model)
        table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, config.d_model)
        return _PositionTables(length, {"positions": table})
    return _PositionTables(length, {})


def described(matrix: Matrix) -> _Linear:
    """A matrix as the kernels want it."""
    bias = None if matrix.bias is None else matrix.bias.ctypes.data
    return _Linear(
        matrix.address, matrix.scale or None, bias, matrix.d_in, matrix.d_out, FORMATS.index(matrix.format),
        matrix.group,
    )  # fmt: skip


def multiply(matrix: Matrix, x: np.ndarray, threads: int) -> np.ndarray:
    """x W + b for float32 rows x (rows, in): (rows, out)."""
    x = np.ascontiguousarray(x, np.float32)
    y = np.empty((len(x), matrix.d_out), np.float32)
    library().tfguide_linear(
        ctypes.byref(described(matrix)), c_void_p(x.ctypes.data), c_int64(len(x)), c_void_p(y.ctypes.data), threads
    )
    return y


class MemoryReader:
    """A large buffer, of which a call reads every byte by all cores; a call returns the bytes a second of that pass."""

    def __init__(self, n_bytes: int = 3 << 29, threads: int | None = None):
        self.threads, self._library = threads or cores(), library()
        self._memory = np.ones(n_bytes // 4, np.float32)
        self.n_bytes = self._memory.nbytes
        use_huge_pages(self._memory.ctypes.data, self.n_bytes)

    def __call__(self) -> float:
        start = time.perf_counter()
        self._library.tfguide_read(c_void_p(self._memory.ctypes.data), c_int64(self.n_bytes), self.threads)
        return self.n_bytes / (time.perf_counter() - start)


def check(config: ModelConfig) -> None:
    """Raises ValueError for a model that the kernels do not compute."""
    if config.kind != "decoder":
        raise ValueError(f"the fast decoder is for kind='decoder', got kind={config.kind!r}: use generate")
    if config.positions == "relative":
        raise ValueError("the fast decoder has no relative positions (T5's bias): use generate")


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
