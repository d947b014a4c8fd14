"""A model's weights: the interface that compression and checkpoints use, in either framework."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import array_names, quantized_weights
from tfguide.config import ModelConfig
from tfguide.weights import Weight, weight_shapes


class Weighted:
    """A model whose weights can be read, by the methods below, and put into another model of its kind."""

    config: ModelConfig
    quantization: Quantization | None

    @property
    def block_types(self) -> dict[str, str]:
        """The types of the weights that stay in blocks of a GGUF file, such as "Q4_1", by canonical name."""
        raise NotImplementedError

    @property
    def has_small_weights(self) -> bool:
        """Whether weights have fewer bits than float32 activations: quantised ones, or blocks of a GGUF file."""
        return self.quantization is not None or any(kind != "F32" for kind in self.block_types.values())

    def to_weights(self) -> dict[str, np.ndarray]:
        """The canonical dictionary of the weights, as float32 copies: the input of `from_weights`.

        A quantised model, or one in blocks, gives its dequantised weights.
        """
        return {name: np.array(self.weight_of(name), order="C") for name in weight_shapes(self.config)}

    def to_quantized(self) -> dict[str, np.ndarray]:
        """The arrays of a quantised model, as `quantized_shapes` of `tfguide.compress.quantized` lists them."""
        arrays = {}
        for name, weight in quantized_weights(self.config).items():
            if weight.is_compressed:
                path = name.removesuffix(".weight")
                arrays |= zip(array_names(path, self.quantization), self.packed_of(path), strict=True)
            else:
                arrays[name] = self.weight_of(name)
        return arrays

    def shape_of(self, weight: Weight) -> tuple[int, ...]:
        """The shape in which the model holds a weight: all of it, but for a process that has only its piece."""
        return weight.shape

    def weight_of(self, name: str) -> np.ndarray:
        """One weight of the canonical dictionary, float32; the matrix of a tied head is "head.weight"."""
        raise NotImplementedError

    def packed_of(self, path: str) -> tuple[np.ndarray, ...]:
        """The arrays of a quantised linear layer, as `Quantization.parts` names them."""
        raise NotImplementedError

    def grams(self, tokens: Any) -> Iterator[dict[str, np.ndarray]]:
        """X^T X, (in, in), of the inputs X of linear layers for tokens (B, T), by the path of the layer.

        One dictionary for each block, in order, and one for the head. Of layers with one input only the first is named.
        """
        raise NotImplementedError

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Self:
        """A model of this framework and type with another configuration and other weights. Raises as `from_weights`."""
        raise NotImplementedError

    def with_quantized(self, quantization: Quantization, arrays: Mapping[str, np.ndarray]) -> Self:
        """A quantised model of this framework, type and configuration, with the arrays of `to_quantized`."""
        raise NotImplementedError

    def hidden_states(self, tokens: Any) -> list[np.ndarray]:
        """The input of the first block and the output of each block for tokens (B, T): float32 arrays (B, T, D)."""
        raise NotImplementedError
