"""Linear layers with weights of 8 or 4 bits."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfguide.compress import ACTIVATION_BLOCK, Quantization, dequantize
from tfguide.compress.packing import aligned
from tfguide.tensorflow.experts import multiply
from tfguide.tensorflow.tensors import multiply_rows


class QuantizedLinear(keras.layers.Layer):
    """A linear layer with packed weights of 8 or 4 bits: `x @ dequantised weight + bias`, (..., in) to (..., out).

    packed, scale, unit: as `tfguide.compress.packing` lays them out; unit is None unless the weight is asymmetric.
    bias: (out,) or None. With 8-bit activations the input
    is rounded in blocks of 32 first. This is the readable path: it dequantises the weight in every call; the fast
    decoder multiplies by the packed weight.
    """

    def __init__(self, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None, unit=None):
        super().__init__(autocast=False)
        self.d_in, self.d_out, self.quantization = d_in, d_out, quantization
        self.packed, self.scale = aligned(packed), aligned(scale)
        self.unit = None if unit is None else aligned(unit)
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.built = True

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays of the weight, as `Quantization.parts` names them."""
        return (self.packed, self.scale) if self.unit is None else (self.packed, self.scale, self.unit)

    def call(self, x):
        """x: (..., in) to (..., out)."""
        rows = round_activations(x) if self.quantization.activation_bits else x
        y = multiply_rows(tf.cast(rows, tf.float32), self.kernel)
        return tf.cast(y if self.bias is None else y + self.bias, x.dtype)

    @property
    def kernel(self) -> tf.Tensor:
        """The dequantised weight, computed at each access: float32, (in, out) as in keras.layers.Dense."""
        return tf.constant(dequantize(self.packed, self.scale, self.d_out, self.d_in, self.unit))


class QuantizedStack(keras.layers.Layer):
    """`QuantizedLinear` for each of n experts; packed, scale, unit: with the experts along a first axis; bias (n, out).

    A call dequantises the weight of the one expert that it names, or, in a graph, the weights of all.
    """

    def __init__(self, n: int, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None, unit=None):
        super().__init__(autocast=False)
        units = [None] * n if unit is None else unit
        self.layers = [
            QuantizedLinear(d_in, d_out, quantization, packed[e], scale[e], None, units[e]) for e in range(n)
        ]
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.built = True

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """The arrays of the weights, as `Quantization.parts` names them."""
        return tuple(np.stack(parts) for parts in zip(*(layer.arrays for layer in self.layers), strict=True))

    def call(self, x, expert):
        """x: (N, in) to (N, out) by one expert, or (N, k, in) to (N, k, out) each by its own, expert (N, k)."""
        if isinstance(expert, int):
            y = self.layers[expert](x)
        else:
            rows = round_activations(x) if self.layers[0].quantization.activation_bits else x
            y = tf.cast(multiply(tf.cast(rows, tf.float32), tf.gather(self.weight, expert)), x.dtype)
        return y if self.bias is None else tf.cast(tf.cast(y, tf.float32) + tf.gather(self.bias, expert), x.dtype)

    @property
    def weight(self) -> tf.Tensor:
        """The dequantised weights, computed at each access: float32, (n, in, out)."""
        return tf.stack([layer.kernel for layer in self.layers])


def round_activations(x: tf.Tensor) -> tf.Tensor:
    """Activations (..., in) rounded to 8 bits in blocks of 32 inputs and converted back to their type."""
    n = x.shape[-1]
    wide = tf.pad(tf.cast(x, tf.float32), [[0, 0]] * (len(x.shape) - 1) + [[0, -n % ACTIVATION_BLOCK]])
    blocks = tf.reshape(wide, tf.concat([tf.shape(wide)[:-1], [-1, ACTIVATION_BLOCK]], axis=0))
    scale = tf.reduce_max(tf.abs(blocks), axis=-1, keepdims=True) / 127
    rounded = tf.round(blocks / tf.where(scale == 0, 1.0, scale)) * scale
    return tf.cast(tf.reshape(rounded, tf.shape(wide))[..., :n], x.dtype)
