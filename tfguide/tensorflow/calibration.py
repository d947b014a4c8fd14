"""What the linear layers of a model read: X^T X of their inputs, for second-order rounding."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfguide.compress.calibration import TOKENS, observed_layers
from tfguide.tensorflow.inputs import as_tokens
from tfguide.tensorflow.linear import left_out
from tfguide.tensorflow.weighted import layer_of, policy
from tfguide.weights import weight_table


class ObservedLinear(keras.layers.Layer):
    """A linear layer that adds up X^T X, (in, in), float32, of the rows of its inputs in `gram`."""

    def __init__(self, layer: keras.layers.Layer, d_in: int):
        super().__init__(autocast=False)
        self.layer, self.gram = layer, np.zeros((d_in, d_in), np.float32)
        self.built = True

    def call(self, x):
        """x: (..., in) to (..., out)."""
        rows = tf.cast(tf.reshape(x, (-1, x.shape[-1])), tf.float32)
        self.gram += tf.matmul(rows, rows, transpose_a=True).numpy()
        return self.layer(x)


def grams(model, tokens) -> Iterator[dict[str, np.ndarray]]:
    """X^T X, (in, in), of the inputs X of linear layers for tokens (B, T), by the path of the layer.

    One dictionary for each block, in order, and one for the head. Of layers with one input only the first is named.
    Raises TypeError or ValueError for tokens that the model does not read.
    """
    observer = _Observer(model, as_tokens(model, tokens)[0])
    yield from (observer.read_block(index) for index in range(len(observer.stack.layers)))
    yield observer.read_head()


class _Observer:
    """Reads tokens (B, T) with a model's blocks, one block for all tokens before the next; the model is not changed."""

    def __init__(self, model, tokens):
        self._model, self._name = model, "encoder" if model.config.kind == "encoder" else "decoder"
        self.stack = getattr(model, self._name)
        positions = tf.range(tokens.shape[1])[None]
        self._terms = self.stack.block_terms(positions)
        step = max(1, TOKENS // tokens.shape[1])
        self._states = [model.embedding(tokens[at : at + step], positions) for at in range(0, len(tokens), step)]

    def read_block(self, index: int) -> dict[str, np.ndarray]:
        """X^T X of the inputs of one block's layers, by their paths; blocks are read in order."""
        path = f"{self._name}.layers.{index}"
        block, observed = self._observed(path, index)
        self._states = [block(x, **self._terms[index]) for x in self._states]
        return {f"{path}.{own}": layer.gram for own, layer in observed.items()}

    def read_head(self) -> dict[str, np.ndarray]:
        """X^T X of the head's inputs: the last block's outputs, normalised as the model does."""
        if self._model.config.kind == "encoder":
            return {}
        head = ObservedLinear(keras.layers.Identity(), self._model.config.d_model)
        for x in self._states:
            head(self.stack.final_norm(x) if self._model.config.final_norm else x)
        return {"head": head.gram}

    def _observed(self, path, index):
        """A copy of a block that shares its layers, and those of its layers that are observed, by their paths."""
        config, theirs = self._model.config, layer_of(self._model, path)
        with policy(self._model.dtype_name), left_out():
            block = type(theirs)(config, index)
        observed = {}
        for own in _parts(config, path):
            layer = layer_of(theirs, own)
            if own in observed_layers(config, index):
                d_in = weight_table(config)[f"{path}.{own}.weight"].shape[0]
                layer = observed[own] = ObservedLinear(layer, d_in)
            parent, _, last = own.rpartition(".")
            setattr(layer_of(block, parent), last, layer)
        return block, observed


def _parts(config, path):
    """The paths within a block of its layers with weights, and of sinks, which are a weight of attention itself."""
    names = [name.removeprefix(f"{path}.") for name in weight_table(config) if name.startswith(f"{path}.")]
    return dict.fromkeys(name if name.endswith(".sinks") else name.rpartition(".")[0] for name in names)
