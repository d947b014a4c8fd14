"""Quantised models: the same Transformer with linear layers of 8 or 4 bits."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfguide.checkpoints.quantized import pack_weights, quantized_weights
from tfguide.compress import ACTIVATION_BLOCK, Quantization, dequantize
from tfguide.config import ModelConfig
from tfguide.tensorflow import linear
from tfguide.tensorflow.models import Decoder, Encoder, EncoderDecoder, empty_model, to_numpy, variable_of


class _KernelOfThread(threading.local):
    product = None  # a fast decoder's, in the thread in which it reads a prompt


class QuantizedLinear(keras.layers.Layer):
    """A linear layer with packed weights of 8 or 4 bits: `x @ dequantised weight + bias`, (..., in) to (..., out).

    packed, scale: as `tfguide.compress.packing` lays them out; bias: (out,) or None. With 8-bit activations the input
    is rounded in blocks of 32 first. This is the readable path, which makes the weight anew in every call; the fast
    decoder multiplies by the packed weight itself.
    """

    def __init__(self, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None):
        super().__init__(autocast=False)
        self.d_in, self.d_out, self.quantization = d_in, d_out, quantization
        self.packed, self.scale = np.ascontiguousarray(packed), np.ascontiguousarray(scale)
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.kernel_of_thread = _KernelOfThread()
        self.built = True

    def call(self, x):
        """x: (..., in) to (..., out)."""
        if self.kernel_of_thread.product is not None:
            return self.kernel_of_thread.product(x)
        rows = round_activations(x) if self.quantization.activation_bits else x
        y = tf.matmul(tf.cast(rows, tf.float32), self.kernel)
        return tf.cast(y if self.bias is None else y + self.bias, x.dtype)

    @property
    def kernel(self) -> tf.Tensor:
        """The weight that the packed one stands for, made anew: float32, (in, out) as in keras.layers.Dense."""
        return tf.constant(dequantize(self.packed, self.scale, self.d_out, self.d_in))


def round_activations(x: tf.Tensor) -> tf.Tensor:
    """Activations (..., in) rounded to 8 bits in blocks of 32 inputs, and back to their own type."""
    n = x.shape[-1]
    wide = tf.pad(tf.cast(x, tf.float32), [[0, 0]] * (len(x.shape) - 1) + [[0, -n % ACTIVATION_BLOCK]])
    blocks = tf.reshape(wide, tf.concat([tf.shape(wide)[:-1], [-1, ACTIVATION_BLOCK]], axis=0))
    scale = tf.reduce_max(tf.abs(blocks), axis=-1, keepdims=True) / 127
    rounded = tf.round(blocks / tf.where(scale == 0, 1.0, scale)) * scale
    return tf.cast(tf.reshape(rounded, tf.shape(wide))[..., :n], x.dtype)


def quantize(
    model: Encoder | Decoder | EncoderDecoder,
    weight_bits: int = 8,
    activation_bits: int | None = None,
    group_size: int = 32,
) -> Encoder | Decoder | EncoderDecoder:
    """A copy of a model whose linear layers have weights of 8 or 4 bits; `model.quantization` says how.

    8 bits: a scale for each output. 4 bits: two weights to a byte, a scale for each `group_size` inputs of an output.
    activation_bits: 8 rounds what the layers read, in blocks of 32; None leaves it. Embeddings and norms stay as they
    are; a tied head gets a quantised copy of its own. The model itself is not changed.

    Raises ValueError for a model that is quantised already, other numbers of bits, a group size that does not divide
    the inputs of a layer, or weights that are NaN or infinite.
    """
    if model.quantization is not None:
        raise ValueError(f"the model is quantised already: {model.quantization}")
    quantization = Quantization(weight_bits, activation_bits, group_size)
    arrays = pack_weights(model.config, quantization, lambda name: _array(model, name))
    return from_quantized(model.config, quantization, arrays, model.compute_dtype)


def from_quantized(
    config: ModelConfig, quantization: Quantization, arrays: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The quantised model of arrays by name: see `tfguide.checkpoints.quantized.quantized_shapes`."""
    with linear.left_out():  # no memory for matrices that are about to be replaced
        model = empty_model(config, dtype)
    model.quantization = quantization
    replaced = set()
    for name, weight in quantized_weights(config).items():
        path, _, _ = name.rpartition(".")
        if weight.is_matrix:
            packed, scale, bias = arrays[f"{path}.packed"], arrays[f"{path}.scale"], arrays.get(f"{path}.bias")
            layer = QuantizedLinear(*weight.shape, quantization, packed, scale, bias)
            parent, _, own = path.rpartition(".")
            setattr(_layer(model, parent), own, layer)
            replaced.add(path)
        elif path not in replaced:
            variable_of(model, name).assign(arrays[name])
    return model


def to_quantized(model: Encoder | Decoder | EncoderDecoder) -> dict[str, np.ndarray]:
    """The arrays of a quantised model by name: what `from_quantized` took."""
    arrays = {}
    for name, weight in quantized_weights(model.config).items():
        if weight.is_matrix:
            path = name.removesuffix(".weight")
            layer = _layer(model, path)
            arrays[f"{path}.packed"], arrays[f"{path}.scale"] = layer.packed, layer.scale
        else:
            arrays[name] = _array(model, name)
    return arrays


def _array(model, name):
    """A weight as the canonical dictionary has it, float32: (in, out) of a linear layer."""
    if name == "head.weight" and model.config.tied_head:
        return to_numpy(model.embedding.token.embeddings).T
    return to_numpy(variable_of(model, name))


def _layer(model, path):
    layer = model
    for step in path.split(".") if path else ():
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step)
    return layer
