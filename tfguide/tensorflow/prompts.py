"""How a fast decoder reads a prompt: the model itself, with kernels in place of the products of quantised layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.tensorflow.quantize import QuantizedLinear

MANY_ROWS = 256  # from here on it pays to unpack weights for activations of 32 bits (PyTorch: from 32)


class PromptKernels:
    """The kernels for one model: `with kernels.in_place(): model(...)` computes with them, in this thread.

    Quantised layers multiply packed weights; see `_packed_product`. What stands between the products is left to
    TensorFlow's graph, which fuses some of it; PyTorch's side of this file has kernels for it.
    """

    def __init__(self, layers: Mapping[str, object], matrices: Mapping[str, native.Matrix], threads: int):
        self._products = [
            (layer, _packed_product(layer, matrices[name], threads))
            for name, layer in layers.items()
            if isinstance(layer, QuantizedLinear)
        ]

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts, the model's parts compute by the kernels where this thread calls them."""
        before = [layer.kernel_of_thread.product for layer, _ in self._products]
        for layer, product in self._products:
            layer.kernel_of_thread.product = product
        try:
            yield
        finally:
            for (layer, _), product in zip(self._products, before, strict=True):
                layer.kernel_of_thread.product = product


def _packed_product(layer, matrix, threads):
    """The product of a quantised layer, whose result for a row does not depend on what other rows there are.

    8-bit activations: the kernels multiply integers, however many rows come. Others: they multiply few rows; for many
    the weights are unpacked into float32, and what TensorFlow makes of them differs by the order of its sums.
    """
    rounds = layer.quantization.activation_bits is not None
    by_channel = layer.quantization.weight_bits == 8
    scale = np.asarray(layer.scale).reshape(-1)[: layer.d_out] if by_channel else None

    def rows_product(rows):  # eager: (rows, in) to (rows, out), float32
        if rounds or len(rows) < MANY_ROWS:
            return tf.constant(native.multiply(matrix, rows.numpy(), threads))
        weight = np.empty((layer.d_in, layer.d_out), np.float32)
        native.unpack(matrix, weight.ctypes.data, "float32", threads)
        y = rows @ tf.convert_to_tensor(weight)
        y = y * scale if by_channel else y
        return y if layer.bias is None else y + tf.cast(layer.bias, tf.float32)

    def product(x):
        rows = tf.reshape(tf.cast(x, tf.float32), (-1, layer.d_in))
        y = rows_product(rows) if tf.executing_eagerly() else tf.py_function(rows_product, [rows], tf.float32)
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [layer.d_out]], axis=0))
        return tf.cast(tf.ensure_shape(y, (*x.shape[:-1], layer.d_out)), x.dtype)

    return product
