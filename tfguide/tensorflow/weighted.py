"""What every model has besides its forward pass: methods that read and set its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Self

import keras
import numpy as np

from tfguide.checkpoints import Blocks
from tfguide.compress import Quantization, weighted
from tfguide.compress.quantized import array_names, quantized_weights
from tfguide.config import ModelConfig
from tfguide.tensorflow.gguf import BlockEmbedding, BlockLinear, BlockStack
from tfguide.tensorflow.linear import embedding, left_out
from tfguide.tensorflow.quantized import QuantizedLinear, QuantizedStack
from tfguide.tensorflow.tensors import to_float32
from tfguide.weights import check_dtype, check_weights, weight_shapes, weight_table


class Weighted(weighted.Weighted):
    """A Keras model's weights: `config`, `quantization`, `compute_dtype`, and the canonical dictionary."""

    @property
    def dtype_name(self) -> str:
        """The type of the weights and the activations, by the name that both frameworks use."""
        return self.compute_dtype

    @property
    def block_types(self) -> dict[str, str]:
        """The types of the weights that stay in blocks of a GGUF file, such as "Q4_1", by canonical name."""
        layers = {name: layer_of(self, name.rpartition(".")[0]) for name in weight_shapes(self.config)}
        return {
            name: layer.blocks.block_type
            for name, layer in layers.items()
            if isinstance(layer, (BlockLinear, BlockStack, BlockEmbedding)) and name.endswith(".weight")
        }

    def weight_of(self, name: str) -> np.ndarray:
        """One weight of the canonical dictionary, float32; the matrix of a tied head is "head.weight"."""
        if name == "head.weight" and self.config.tied_head:
            return to_float32(self.embedding.token.embeddings).T
        return to_float32(variable_of(self, name))

    def packed_of(self, path: str) -> tuple[np.ndarray, ...]:
        """The arrays of a quantised linear layer, as `Quantization.parts` names them."""
        return layer_of(self, path).arrays

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Self:
        """A model of this framework and type with another configuration and other weights. Raises as `from_weights`."""
        check_weights(config, weights)
        check_dtype(self.dtype_name)
        with policy(self.dtype_name):
            return type(self)(config).fill(weights)

    def with_quantized(self, quantization: Quantization, arrays: Mapping[str, np.ndarray]) -> Self:
        """A quantised model of this framework, type and configuration, with the arrays of `to_quantized`."""
        with policy(self.dtype_name), left_out():
            model = type(self)(self.config)
        return model.fill_quantized(quantization, arrays)

    def fill(self, weights: Mapping[str, np.ndarray]) -> Self:
        """Copy the weights of a checked dictionary into the model and return it, ready for inference."""
        for name in weight_shapes(self.config):
            variable_of(self, name).assign(weights[name])
        return self

    def fill_quantized(self, quantization: Quantization, arrays: Mapping[str, np.ndarray]) -> Self:
        """Set packed matrices, and other weights in the type of the layers; return the model, ready for inference."""
        self.quantization, packed = quantization, set()
        for name, weight in quantized_weights(self.config).items():
            path, _, _ = name.rpartition(".")
            if weight.is_compressed:
                matrix, scale, *unit = (arrays[own] for own in array_names(path, quantization))
                kind = QuantizedStack if weight.is_routed else QuantizedLinear
                layer = kind(*self.shape_of(weight), quantization, matrix, scale, arrays.get(f"{path}.bias"), *unit)
                parent, _, own = path.rpartition(".")
                setattr(layer_of(self, parent), own, layer)
                packed.add(path)
            elif path not in packed:  # which holds its bias
                variable_of(self, name).assign(arrays[name])
        return self

    def fill_blocks(self, arrays: Mapping[str, Blocks | np.ndarray]) -> Self:
        """Set weights that stay in blocks, and others in float32; return the model, ready for inference."""
        for name, array in arrays.items():
            path, _, _ = name.rpartition(".")
            parent, _, own = path.rpartition(".")
            layer, weight = layer_of(self, path), weight_table(self.config)[name]
            if isinstance(array, Blocks) and weight.role == "router":
                variable_of(self, name).assign(array.dequantised().T)
            elif isinstance(array, Blocks):
                kind = BlockStack if weight.is_routed else BlockLinear
                layer = kind(array, arrays.get(f"{path}.bias")) if weight.is_matrix else BlockEmbedding(array)
                setattr(layer_of(self, parent), own, layer)
            elif not isinstance(layer, (BlockLinear, BlockStack)):  # which hold their bias
                if isinstance(layer, keras.layers.Identity):  # a table that was left out
                    setattr(layer_of(self, parent), own, embedding(*array.shape))
                variable_of(self, name).assign(array)
        return self


@contextlib.contextmanager
def policy(dtype: str) -> Iterator[None]:
    """Within the block, layers are created with weights of this type."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def layer_of(model, path: str):
    """The layer at a path of attributes, "" for the model itself."""
    layer = model
    for step in path.split(".") if path else ():
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step)
    return layer


def variable_of(model, name: str):
    """The Keras variable behind a canonical name, which is the path of attributes that leads to it."""
    path, _, last = name.rpartition(".")
    layer = layer_of(model, path)
    if last == "weight" and isinstance(layer, (keras.layers.Dense, QuantizedLinear, BlockLinear)):
        last = "kernel"
    if last == "weight" and isinstance(layer, (keras.layers.Embedding, BlockEmbedding)):
        last = "embeddings"
    return getattr(layer, last)
