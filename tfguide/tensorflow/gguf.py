"""Layers whose weights stay in the blocks of a GGUF file."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfguide.checkpoints import Blocks
from tfguide.tensorflow.experts import multiply
from tfguide.tensorflow.tensors import multiply_rows


class BlockLinear(keras.layers.Layer):
    """A linear layer whose weight stays in blocks: `x @ dequantised weight + bias`, (..., in) to (..., out).

    blocks: the rows of a weight (out, in), mapped from a file or in memory. bias: (out,) or None. The product is
    computed in float32. This is the readable path: it dequantises the weight in every call, also in those of a graph,
    which XLA cannot compile; the fast decoder multiplies by the blocks. The weight records no gradient.
    """

    def __init__(self, blocks: Blocks, bias=None):
        super().__init__(autocast=False)
        self.blocks, (self.d_out, self.d_in) = blocks, blocks.shape
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.built = True

    def call(self, x):
        """x: (..., in) to (..., out)."""
        y = multiply_rows(tf.cast(x, tf.float32), _dequantised(self.blocks), transpose=True)
        return tf.cast(y if self.bias is None else y + self.bias, x.dtype)

    @property
    def kernel(self) -> tf.Tensor:
        """The dequantised weight, computed at each access: float32, (in, out) as in keras.layers.Dense."""
        return tf.transpose(_dequantised(self.blocks))


class BlockStack(keras.layers.Layer):
    """`BlockLinear` for each of n experts: blocks (n, out, in), bias (n, out) or None.

    A call dequantises the weight of the one expert that it names, or, of numbers (N, k), those of all N k of them.
    """

    def __init__(self, blocks: Blocks, bias=None):
        super().__init__(autocast=False)
        self.blocks = blocks
        self.bias = None if bias is None else np.array(bias, np.float32)
        self.built = True

    def call(self, x, expert):
        """x: (N, in) to (N, out) by one expert, or (N, k, in) to (N, k, out) each by its own, expert (N, k)."""
        expert = tf.convert_to_tensor(expert)
        weight = _computed(lambda numbers: self.blocks.take(numbers), expert)
        weight = tf.ensure_shape(weight, (*expert.shape, *self.blocks.shape[1:]))
        y = multiply(tf.cast(x, tf.float32), tf.linalg.matrix_transpose(weight))
        return tf.cast(y if self.bias is None else y + tf.gather(self.bias, expert), x.dtype)

    @property
    def weight(self) -> tf.Tensor:
        """The dequantised weights, computed at each access: float32, (n, in, out)."""
        return tf.linalg.matrix_transpose(_dequantised(self.blocks))


class BlockEmbedding(keras.layers.Layer):
    """A table (rows, D) that stays in blocks: row numbers (...) to the dequantised rows (..., D), float32.

    blocks: the rows of the table, mapped from a file or in memory. A call dequantises the rows that it reads. The table
    records no gradient.
    """

    def __init__(self, blocks: Blocks):
        super().__init__(autocast=False)
        self.blocks = blocks
        self.built = True

    def call(self, rows):
        """rows: integers (...) to (..., D)."""
        taken = _computed(lambda numbers: self.blocks.take(numbers), rows)
        return tf.ensure_shape(taken, (*rows.shape, self.blocks.shape[1]))

    @property
    def embeddings(self) -> tf.Tensor:
        """The dequantised table, computed at each access: float32, (rows, D) as in keras.layers.Embedding."""
        return _dequantised(self.blocks)


def _dequantised(blocks):
    return tf.ensure_shape(_computed(blocks.dequantised), blocks.shape)


def _computed(function, *inputs):
    """A float32 array that NumPy computes, in each run of a graph as well."""
    if tf.executing_eagerly():
        return tf.constant(function(*(x.numpy() for x in inputs)))
    return tf.numpy_function(function, inputs, tf.float32)
