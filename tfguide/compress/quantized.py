"""Quantised models as arrays by name: which weights are packed, and into which arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfguide.compress.quantization import Quantization
from tfguide.config import ModelConfig
from tfguide.weights import Weight, weight_table


def pack_weights(
    config: ModelConfig,
    quantization: Quantization,
    weight_of: Callable[[str], np.ndarray],
    gram_of: Callable[[str], np.ndarray | None] = lambda path: None,
) -> dict[str, np.ndarray]:
    """The arrays of a quantised model, as `quantized_shapes` lists them, from its weights.

    weight_of: a canonical weight by its name; it is called once for each, in order. gram_of: X^T X of inputs of a
    linear layer by its path, in the same order; None, the default: no inputs are known. Raises ValueError for a group
    size that does not divide the inputs of a layer, or weights that are NaN or infinite.
    """
    arrays = {}
    for name, weight in quantized_weights(config).items():
        array = weight_of(name)
        if weight.is_compressed:
            path = name.removesuffix(".weight")
            packed = quantization.pack_any(name, array, gram_of(path))
            arrays |= zip(array_names(path, quantization), packed, strict=True)
        else:
            arrays[name] = array
    return arrays


def pack_checkpoint(
    config: ModelConfig, weights: dict[str, np.ndarray], quantization: Quantization
) -> dict[str, np.ndarray]:
    """The arrays of a quantised model from the weights of `read_checkpoint`, which are removed from the dictionary."""

    def weight_of(name):
        if name == "head.weight" and config.tied_head:
            return weights["embedding.token.weight"].T
        return weights[name] if name == "embedding.token.weight" else weights.pop(name)

    return pack_weights(config, quantization, weight_of)


def array_names(path: str, quantization: Quantization) -> list[str]:
    """The names of the arrays of a quantised layer: PATH.packed, PATH.scale and, of asymmetric weights, PATH.unit."""
    return [f"{path}.{part}" for part in quantization.parts]


def quantized_shapes(config: ModelConfig, quantization: Quantization) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and type of every array of a quantised model: those of `array_names` instead of a matrix."""
    result: dict[str, tuple[tuple[int, ...], str]] = {}
    for name, weight in quantized_weights(config).items():
        if weight.is_compressed:
            names = array_names(name.removesuffix(".weight"), quantization)
            *experts, n_in, n_out = weight.shape
            for own, (shape, dtype) in zip(names, quantization.shapes(n_in, n_out), strict=True):
                result[own] = (*experts, *shape), dtype
        else:
            result[name] = weight.shape, "float32"
    return result


def quantized_weights(config: ModelConfig) -> dict[str, Weight]:
    """The weights by name that quantisation reads, including a tied head, which has no weight of its own."""
    table = dict(weight_table(config))
    if config.kind != "encoder" and config.tied_head:
        (d_out, d_in), axes = table["embedding.token.weight"].shape, table["embedding.token.weight"].axes[::-1]
        table["head.weight"] = Weight("head.weight", (d_in, d_out), "head", "head", axes)
    return table
