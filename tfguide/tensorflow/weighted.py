"""What every model has beside its forward pass: where its weights are, and how they are taken out and put in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfguide.config import ModelConfig
from tfguide.tensorflow.linear import QuantizedLinear
from tfguide.tensorflow.tensors import to_float32
from tfguide.weights import check_dtype, check_weights, weight_shapes


class Weighted:
    """A model by its weights: `config`, `compute_dtype`, and the canonical dictionary."""

    @property
    def dtype_name(self) -> str:
        """The type of the weights and the activations, by the name that both frameworks use."""
        return self.compute_dtype

    def to_weights(self) -> dict[str, np.ndarray]:
        """The canonical dictionary of the weights, float32 copies: what `from_weights` took.

        Of a quantised model: what its weights stand for.
        """
        return {name: np.array(self.weight_of(name), order="C") for name in weight_shapes(self.config)}

    def weight_of(self, name: str) -> np.ndarray:
        """One weight as the canonical dictionary has it, float32; a tied head's matrix has a name as well."""
        if name == "head.weight" and self.config.tied_head:
            return to_float32(self.embedding.token.embeddings).T
        return to_float32(variable_of(self, name))

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Weighted:
        """A model of this class and type with another configuration and other weights. Raises as `from_weights`."""
        check_weights(config, weights)
        check_dtype(self.dtype_name)
        with policy(self.dtype_name):
            model = type(self)(config)
        return fill(model, weights)


def fill(model: Weighted, weights: Mapping[str, np.ndarray]) -> Weighted:
    """Give a model the weights of a checked dictionary, copied; it is ready for inference."""
    for name in weight_shapes(model.config):
        variable_of(model, name).assign(weights[name])
    return model


@contextlib.contextmanager
def policy(dtype: str) -> Iterator[None]:
    """Within the block, layers are made with weights of a type."""
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
    if last == "weight" and isinstance(layer, (keras.layers.Dense, QuantizedLinear)):
        last = "kernel"
    if last == "weight" and isinstance(layer, keras.layers.Embedding):
        last = "embeddings"
    return getattr(layer, last)
