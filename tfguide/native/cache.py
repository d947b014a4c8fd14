"""The addresses of a cache for one call of the kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.generation.rings import layer_slots
from tfguide.native import abi
from tfguide.native.tensors import describe_layout, dtype_of, find_other


@dataclass(frozen=True)
class NativeCache:
    """The addresses of the keys and values of each layer, and the tensors, which keep the memory alive.

    Of latent attention the keys are the rotated parts, and the values the latents. shape: (B, max_length), and that of
    the keys, (K, d); dtype: one of CACHE_TYPES; key_scales, value_scales: the addresses of the scales of an int8 cache,
    float32 (B, max_length, K), of each layer; else empty. ring: the slots of a layer with a window, instead of
    max_length; 0: all layers have the same. tables: int64 (texts, n_pages), where the tensors are pages (n, page, K, d)
    that texts share: the pages of each text.
    """

    keys: Sequence[int]
    values: Sequence[int]
    shape: tuple[int, int, int, int]
    dtype: str
    owner: Any = field(default=None, repr=False)
    key_scales: Sequence[int] = ()
    value_scales: Sequence[int] = ()
    ring: int = 0
    tables: np.ndarray | None = field(default=None, repr=False)

    @functools.cached_property
    def lists(self) -> dict[str, Any]:
        """The addresses of each layer, by their names in a call."""
        names = "keys", "values", "key_scales", "value_scales"
        return {name: abi.addresses(getattr(self, name)) for name in names}

    @property
    def n_texts(self) -> int:
        """The texts that it holds, B."""
        return self.shape[0] if self.tables is None else len(self.tables)

    @property
    def max_length(self) -> int:
        """The most positions of a text."""
        return self.shape[1] if self.tables is None else self.tables.shape[1] * self.shape[1]

    @property
    def pages(self) -> tuple[int | None, int, int]:
        """The address of the tables, the pages of a text, and the slots of a page."""
        if self.tables is None:
            return None, 0, 0
        return self.tables.ctypes.data, self.tables.shape[1], self.shape[1]

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        batch_size: int,
        keys: Sequence[Any],
        values: Sequence[Any],
        address: Callable[[Any], int],
        dtype: str,
        scales: tuple[Sequence[Any], Sequence[Any]] | None = None,
        max_length: int | None = None,
    ) -> NativeCache:
        """The cache in the current tensors of each layer; address: a function from a tensor to its memory address.

        The tensors are NumPy's or PyTorch's, of the type `dtype`. scales: those of the keys and of the values, of an
        int8 cache. max_length: of the cache, where layers with a window have a ring; default: that of the tensors.
        Every step checks each of them. Raises ValueError for tensors that the kernels cannot use.
        """
        if dtype not in abi.CACHE_TYPES:
            raise ValueError(f"the fast decoder takes a cache of {', '.join(abi.CACHE_TYPES)}, got {dtype}")
        if (scales is not None) != (dtype == "int8"):
            raise ValueError(
                f"an int8 cache has scales and no other has: got {dtype} {'without' if scales is None else 'with'} them"
            )
        if len(keys) != config.n_layers or len(values) != config.n_layers:
            raise ValueError(
                f"the cache must hold keys and values of {config.n_layers} layers, got {len(keys)} and {len(values)}"
            )
        shape, slots = tuple(keys[0].shape), None
        if max_length is not None and len(shape) == 4:
            shape, slots = (shape[0], max_length, *shape[2:]), layer_slots(config, max_length)
        B, (K, d), of_value = batch_size, *config.cached.values()
        if len(shape) != 4 or (shape[0], *shape[2:]) != (B, K, d):
            raise ValueError(f"the cache must hold (B, S, K, d) = ({B}, S, {K}, {d}), got {shape}")
        if dtype_of(keys[0]) != dtype:
            raise ValueError(f"the cache must be of the type that is named, {dtype}, got {dtype_of(keys[0])}")
        tensors = (*keys, *values)
        if of_value == (K, d):
            check_layers("keys and values", tensors, dtype, shape, slots)
        else:
            for name, own in zip(config.cached, (keys, values), strict=True):
                check_layers(f"{name!r}", own, dtype, (*shape[:2], *config.cached[name]), slots)
        places = [address(key) for key in keys], [address(value) for value in values]
        if scales is None:
            return cls(*places, shape, dtype, tensors, ring=0 if slots is None else min(slots))
        if [len(part) for part in scales] != [config.n_layers] * 2:
            raise ValueError(
                f"the cache must hold scales of {config.n_layers} layers, got {[len(part) for part in scales]}"
            )
        both = (*scales[0], *scales[1])
        check_layers("scales", both, "float32", shape[:-1], slots)
        scales = ([address(x) for x in part] for part in scales)
        return cls(*places, shape, dtype, (*tensors, *both), *scales, ring=0 if slots is None else min(slots))


def check_layers(
    what: str, tensors: Sequence[Any], dtype: str, shape: tuple[int, ...], slots: Sequence[int] | None = None
) -> None:
    """Raises ValueError that names `what` if one of the tensors of all layers is not what the kernels read.

    slots: of each layer, where they differ: shape[1] otherwise.
    """
    if slots is not None and len(set(slots)) > 1:
        by_layer = [*slots] * (len(tensors) // len(slots))  # the tensors are one or two of each layer
        for n in set(slots):
            some = [tensor for tensor, own in zip(tensors, by_layer, strict=True) if own == n]
            check_layers(what, some, dtype, (shape[0], n, *shape[2:]))
        return
    shape = shape if slots is None else (shape[0], slots[0], *shape[2:])
    other = tensors[0] if dtype_of(tensors[0]) != dtype else find_other(tensors, shape)
    if other is not None:
        raise ValueError(
            f"{what} of all layers must be {dtype} of shape {shape}, contiguous in main memory; got {dtype_of(other)} "
            f"of shape {tuple(other.shape)} with {describe_layout(other)}"
        )
