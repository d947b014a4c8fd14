"""Linear layers with weights of 8 or 4 bits."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfguide.compress import ACTIVATION_BLOCK, Quantization, dequantize
from tfguide.compress.packing import aligned


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
        y = tf.matmul(tf.cast(rows, tf.float32), self.kernel)
        return tf.cast(y if self.bias is None else y + self.bias, x.dtype)

    @property
    def kernel(self) -> tf.Tensor:
        """The dequantised weight, computed at each access: float32, (in, out) as in keras.layers.Dense."""
        return tf.constant(dequantize(self.packed, self.scale, self.d_out, self.d_in, self.unit))


def round_activations(x: tf.Tensor) -> tf.Tensor:
    """Activations (..., in) rounded to 8 bits in blocks of 32 inputs and converted back to their type."""
    n = x.shape[-1]
    wide = tf.pad(tf.cast(x, tf.float32), [[0, 0]] * (len(x.shape) - 1) + [[0, -n % ACTIVATION_BLOCK]])
    blocks = tf.reshape(wide, tf.concat([tf.shape(wide)[:-1], [-1, ACTIVATION_BLOCK]], axis=0))
    scale = tf.reduce_max(tf.abs(blocks), axis=-1, keepdims=True) / 127
    rounded = tf.round(blocks / tf.where(scale == 0, 1.0, scale)) * scale
    return tf.cast(tf.reshape(rounded, tf.shape(wide))[..., :n], x.dtype)
