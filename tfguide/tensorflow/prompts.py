"""How a fast decoder reads a prompt: the model itself, with kernels in place of the products of quantised layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.tensorflow.quantize import QuantizedLinear

MANY_ROWS = 256  # from here on it pays to unpack quantised weights and let TensorFlow multiply (PyTorch: from 32)


class PromptKernels:
    """The kernels for one model: `with kernels.in_place(): model(...)` computes with them.

    Quantised layers multiply few rows by their packed weights; for many, the weights are unpacked, in bfloat16 where
    the processor multiplies it, and the activations take that type in place of 8 bits. What stands between the products
    is left to TensorFlow's graph, which fuses some of it; PyTorch's side of this file has kernels for it.
    """

    def __init__(self, layers: Mapping[str, object], matrices: Mapping[str, native.Matrix], threads: int):
        self.threads = threads
        self._swaps = [
            (layer, self._product(layer, matrices[name]))
            for name, layer in layers.items()
            if isinstance(layer, QuantizedLinear)
        ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts, the model's parts compute by the kernels."""
        for layer, kernel in self._swaps:
            layer.product = kernel
        try:
            yield
        finally:
            for layer, _ in self._swaps:
                layer.product = None

    def _product(self, layer, matrix):
        dtype = tf.as_dtype(native.product_type())
        by_channel = layer.quantization.weight_bits == 8
        scale = np.asarray(layer.scale).reshape(-1)[: layer.d_out] if by_channel else None

        def rows_product(rows):  # eager: (rows, in) to (rows, out), float32
            if len(rows) < MANY_ROWS:
                return tf.constant(native.multiply(matrix, rows.numpy(), self.threads))
            weight = np.empty((layer.d_in, layer.d_out), dtype.as_numpy_dtype)
            native.unpack(matrix, weight.ctypes.data, dtype.name, self.threads)
            y = tf.cast(tf.cast(rows, dtype) @ tf.convert_to_tensor(weight), tf.float32)
            y = y * scale if by_channel else y
            return y if layer.bias is None else y + tf.cast(layer.bias, tf.float32)

        def product(x):
            rows = tf.reshape(tf.cast(x, tf.float32), (-1, layer.d_in))
            y = rows_product(rows) if tf.executing_eagerly() else tf.py_function(rows_product, [rows], tf.float32)
            y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [layer.d_out]], axis=0))
            return tf.cast(tf.ensure_shape(y, (*x.shape[:-1], layer.d_out)), x.dtype)

        return product
