"""How a fast decoder reads a prompt: by a second tree of layers with the same parameters, whose products are kernels.

Layers with weights that are quantised, or in blocks, multiply packed weights. TensorFlow's graph computes everything
between the products and fuses some of it. A call does not change the tree, so threads may share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.tensorflow.gguf import BlockLinear, BlockStack
from tfguide.tensorflow.latent import MultiHeadLatentAttention
from tfguide.tensorflow.linear import left_out
from tfguide.tensorflow.models import Decoder, empty_model
from tfguide.tensorflow.quantized import QuantizedLinear, QuantizedStack
from tfguide.tensorflow.weighted import layer_of
from tfguide.weights import weight_table

MANY_ROWS = 256  # from this many rows, with 32-bit activations, unpacking the weights is faster (PyTorch: from 32)


def prompt_tree(
    model: Decoder, layers: Mapping[str, object], matrices: Mapping[str, native.Matrix], threads: int
) -> Decoder:
    """A model with the parameters and results of `model` but faster leaves; `model` itself if no weight is packed.

    layers, matrices: the linear layers, by their names in the model. `model` is not changed.
    """
    if not any(matrix.is_packed for matrix in matrices.values()):
        return model
    with left_out(tables=True):
        tree = empty_model(model.config, model.dtype_name)
    tree.quantization, tree.embedding = model.quantization, model.embedding
    for layer in range(0 if model.config.latent is None else model.config.n_layers):
        parent, own = f"decoder.layers.{layer}", "self_attention"
        setattr(layer_of(tree, parent), own, FastLatentAttention(layer_of(model, f"{parent}.{own}")))
    for path in _others(model.config, layers):
        parent, _, own = path.rpartition(".")
        setattr(layer_of(tree, parent), own, layer_of(model, path))
    for name, layer in layers.items():
        parent, _, own = name.rpartition(".")
        if isinstance(layer, (QuantizedStack, BlockStack)):
            leaf = PackedStack([own for key, own in matrices.items() if key.rpartition(".")[0] == name], threads)
        else:
            leaf = _leaf(layer, matrices[name], threads)
        setattr(layer_of(tree, parent), own, leaf)
    return tree


def _others(config, layers):
    """The paths of what the stack has beside `layers`: norms, routers, dropout, and attention's own sinks."""
    names = [name for name in weight_table(config) if name.startswith("decoder.")]
    paths = dict.fromkeys(name if name.endswith(".sinks") else name.rpartition(".")[0] for name in names)
    paths |= dict.fromkeys(f"decoder.layers.{layer}.dropout" for layer in range(config.n_layers))
    return [path for path in paths if path not in layers]


class FastLatentAttention(MultiHeadLatentAttention):
    """`MultiHeadLatentAttention` whose absorbed matrix is that of the model: leaves with kernels only multiply.

    Its layers have no weights until `prompt_tree` replaces them.
    """

    def __init__(self, attention: MultiHeadLatentAttention):
        with left_out():
            super().__init__(
                attention.d_model, attention.n_heads, attention.latent, scale=attention.scale,
                attention=attention.attention,
            )  # fmt: skip
        self._up_of_model = attention.up_by_head

    def up_by_head(self, dtype):
        """The matrix of `key_value_up` as (R, H, d_nope + d_v), in this type."""
        return self._up_of_model(dtype)


class PackedLinear(keras.layers.Layer):
    """A quantised layer whose product is a kernel. The result for a row does not depend on the other rows.

    With 8-bit activations the kernels multiply integers, for any number of rows. Otherwise they multiply few rows; for
    many, the weights are unpacked into float32, and TensorFlow's product differs by the order of its sums.
    """

    def __init__(self, layer: QuantizedLinear, matrix: native.Matrix, threads: int):
        super().__init__(autocast=False)
        self.d_in, self.d_out, self.matrix, self._threads = layer.d_in, layer.d_out, matrix, threads
        self.bias = layer.bias
        self._rounds = layer.quantization.activation_bits is not None
        by_channel = layer.quantization.weight_bits == 8
        self._scale = np.asarray(layer.scale).reshape(-1)[: layer.d_out] if by_channel else None
        self.built = True

    def call(self, x):
        """x: (..., in) to (..., out)."""
        rows = tf.reshape(tf.cast(x, tf.float32), (-1, self.d_in))
        y = self._product(rows) if tf.executing_eagerly() else tf.py_function(self._product, [rows], tf.float32)
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.d_out]], axis=0))
        return tf.cast(tf.ensure_shape(y, (*x.shape[:-1], self.d_out)), x.dtype)

    def _product(self, rows):  # eager: (rows, in) to (rows, out), float32
        if self._rounds or len(rows) < MANY_ROWS:
            return tf.constant(native.multiply(self.matrix, rows.numpy(), self._threads))
        return self._by_framework(rows)

    def _by_framework(self, rows):
        weight = np.empty((self.d_in, self.d_out), np.float32)
        native.unpack(self.matrix, weight.ctypes.data, "float32", self._threads)
        y = rows @ tf.convert_to_tensor(weight)
        y = y if self._scale is None else y * self._scale
        return y if self.bias is None else y + tf.cast(self.bias, tf.float32)


class KernelLinear(keras.layers.Layer):
    """A layer in blocks of a GGUF file whose product is a kernel, with 8-bit activations.

    The result for a row does not depend on the other rows.
    """

    def __init__(self, matrix: native.Matrix, threads: int):
        super().__init__(autocast=False)
        self.matrix, self._threads, self.built = matrix, threads, True

    def call(self, x):
        """x: (..., in) to (..., out)."""
        rows = tf.reshape(tf.cast(x, tf.float32), (-1, self.matrix.d_in))
        y = self._product(rows) if tf.executing_eagerly() else tf.py_function(self._product, [rows], tf.float32)
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.matrix.d_out]], axis=0))
        return tf.cast(tf.ensure_shape(y, (*x.shape[:-1], self.matrix.d_out)), x.dtype)

    def _product(self, rows):  # eager: (rows, in) to (rows, out), float32
        return tf.constant(native.multiply(self.matrix, rows.numpy(), self._threads))


class PackedStack(keras.layers.Layer):
    """The layers of experts, quantised or in blocks of a GGUF file, whose products are kernels.

    matrices: one for each expert, with its bias.
    """

    def __init__(self, matrices: Sequence[native.Matrix], threads: int):
        super().__init__(autocast=False)
        self.matrices, self._threads, self.built = matrices, threads, True

    def call(self, x, expert):
        """x: (N, in) to (N, out) by one expert."""
        rows = tf.cast(x, tf.float32).numpy()
        return tf.cast(native.multiply(self.matrices[expert], rows, self._threads), x.dtype)


def _leaf(layer, matrix, threads):
    """The replacement of a linear layer: one whose product is a kernel, or the layer itself."""
    if not isinstance(layer, BlockLinear):
        return PackedLinear(layer, matrix, threads)
    return KernelLinear(matrix, threads) if matrix.format.endswith("a8") else layer
