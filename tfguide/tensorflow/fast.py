"""The fast path of decoding: a model's weights, read where they lie by the C++ kernels of `tfguide.native`."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.checks.values import check_count
from tfguide.generation.caching import check_decode, check_step
from tfguide.tensorflow.cache import KVCache
from tfguide.tensorflow.models import Decoder, as_tokens, count_valid, next_positions, to_numpy, variable_of
from tfguide.tensorflow.prompts import PromptKernels
from tfguide.tensorflow.quantize import QuantizedLinear
from tfguide.weights import vector_names


class FastDecoder:
    """A decoder that stands in for a model wherever one is called: the same arguments, the same results, sooner.

    Up to 16 new tokens in a call with a cache of `new_cache` are computed by the C++ kernels, in float32 whatever the
    type of the weights, and so are prompts of any length where activations have 8 bits; more tokens, other caches and
    attention maps by the framework, with kernels in parts of it (see prompts.py). The weights are the model's own, not
    a copy, so the model must stay as it is. Threads may share a fast decoder, each with a cache of its own.

    With 8-bit activations the result for a row is the same to the last bit, whatever stands in the other rows and
    however a prompt is cut into chunks. Otherwise the number of tokens in a call decides who computes, and a row in a
    batch may be rounded otherwise than the row alone: with activations in float32 by the order of sums, some 1e-6 of
    the largest logit; in bfloat16 or float16 by a few roundings to that type. Two logits that are nearer than that may
    change places.

    Raises ValueError for a model that is not decoder-only or has relative positions, NativeUnavailable (a
    RuntimeError) where there is no C++ compiler: see `accelerate`.
    """

    def __init__(self, model: Decoder, threads: int | None = None):
        native.check(model.config)
        self.model, self.config = model, model.config
        self.threads = _threads() if threads is None else check_count("threads", threads)
        vectors = {}
        for name in vector_names(model.config):
            vectors[name] = _vector(variable_of(model, name))
        self._linear = dict(_linear_layers(model))
        self._matrices = {name: _matrix(layer) for name, layer in self._linear.items()}
        self._embedding = _table(model.embedding.token.embeddings, "rows")
        self._decoder = native.NativeDecoder(model.config, self._embedding, self._matrices, vectors, self.threads)
        self._head = self._matrices.get("head", self._embedding)
        self._prompt_kernels = PromptKernels(self._linear, self._matrices, self.threads)
        self._read = tf.function(self._read_prompt, input_signature=[tf.TensorSpec((None, None), tf.int32)])

    def __call__(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """Tokens (B, T) to logits (B, T, V), as the model's call."""
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def hidden(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits, as the model's `hidden`."""
        ours = type(cache) is _FastCache and token_types is None and record is None
        tokens, valid = as_tokens(self.model, tokens, valid)
        if not ours:
            with self._prompt_kernels.in_place():
                return self.model.hidden(tokens, valid, token_types, record, cache)
        positions = next_positions(self.model, tokens, valid, cache, record)  # raises where the tokens do not fit
        if self._decoder.takes(tokens.shape.num_elements()):
            hidden = self._decoder.step(tokens.numpy(), cache.filled, self._places(cache))
            hidden = tf.constant(hidden)
        elif int(tf.reduce_max(positions)) < tokens.shape[1]:  # nothing stands before the tokens
            with self._prompt_kernels.in_place():
                hidden, keys, values = self._read(tokens)
            cache.fill(keys, values)
        else:
            with self._prompt_kernels.in_place():
                return self.model.hidden(tokens, valid, cache=cache)
        cache.advance(tokens.shape[1] if valid is None else count_valid(valid))
        return hidden

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """The head: hidden states (..., D) to logits (..., V)."""
        rows = hidden.shape.num_elements() // self.config.d_model
        if rows > native.MAX_ROWS and self._head.format in native.FORMATS[:6]:
            return self.model.logits(tf.cast(hidden, self.model.compute_dtype))
        logits = self._head_of(to_numpy(hidden).reshape(rows, self.config.d_model))
        return tf.reshape(tf.constant(logits), (*hidden.shape[:-1], -1))

    def step(self, tokens: np.ndarray, cache: KVCache) -> np.ndarray:
        """One more token of each row, an array (B,), into the cache; the logits (B, V) after it, a float32 array.

        It is `decode` without tensors. Nothing of the framework runs between the kernels: they empty the processor's
        caches of its code, and each first call of a function would wait for the memory. Raises as `decode` does.
        """
        tokens = np.asarray(tokens)
        if type(cache) is not _FastCache or not self._decoder.takes(tokens.size):
            check_decode(tokens.shape, cache.batch_size, int(tf.reduce_min(cache.lengths)))
            return to_numpy(self(tokens[:, None], cache=cache)[:, -1])
        check_step(self.config, cache, tokens, cache.filled)
        hidden = self._decoder.step(tokens[:, None], cache.filled, self._places(cache))
        cache.filled = cache.filled + np.int32(1)
        return self._head_of(hidden[:, 0])

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache that the kernels can use, in the type of the weights."""
        return _FastCache(self.config, batch_size, max_length, tf.as_dtype(self.model.compute_dtype))

    def _head_of(self, hidden):
        return native.multiply(self._head, hidden * np.float32(self.config.logit_scale), self.threads)

    def _read_prompt(self, tokens):
        collected = _Collected(self.config, tokens)
        return self.model.hidden(tokens, cache=collected), collected.keys, collected.values

    def _places(self, cache):
        # Looked up in every step, which takes microseconds: whoever reorders a cache puts other arrays into it, and a
        # cache that was dropped leaves its addresses to the next one, which may have other sizes.
        return native.NativeCache.of(
            self.config, cache.batch_size, cache.keys, cache.values, _address, cache.keys[0].dtype.name
        )


class _FastCache(KVCache):
    """A `KVCache` in NumPy arrays: TensorFlow's variables move in memory when they are written.

    `filled` is `lengths` as NumPy has it.
    """

    @property
    def lengths(self):
        return tf.constant(self.filled)

    @lengths.setter
    def lengths(self, lengths):
        self.filled = np.asarray(lengths, np.int32)

    def _allocate(self, n_slots, dtype):
        shape = (self.batch_size, n_slots, self.config.n_kv_heads, self.config.d_head)
        self.keys = [np.zeros(shape, dtype.as_numpy_dtype) for _ in range(self.config.n_layers)]
        self.values = [np.zeros(shape, dtype.as_numpy_dtype) for _ in range(self.config.n_layers)]

    @property
    def nbytes(self):
        return sum(array.nbytes for array in self.keys + self.values)

    def fill(self, keys, values):
        """Put the keys and values of the first tokens, (B, T, K, d) of each layer, in their place."""
        for mine, new in zip((*self.keys, *self.values), (*keys, *values), strict=True):
            mine[:, : new.shape[1]] = new.numpy()

    def reorder(self, rows):
        rows = np.asarray(rows, np.int64)
        for arrays in (self.keys, self.values):
            arrays[:] = [array[rows] for array in arrays]
        self.batch_size = len(rows)
        self.lengths = tf.gather(self.lengths, rows)

    def _append(self, index, positions, key, value):
        rows = np.arange(self.batch_size)[:, None]
        slots = positions.numpy()
        self.keys[index][rows, slots] = key.numpy()
        self.values[index][rows, slots] = value.numpy()
        end = int(slots.max()) + 1
        keys, values = (tf.constant(stored[index][:, :end]) for stored in (self.keys, self.values))
        return tf.cast(keys, key.dtype), tf.cast(values, value.dtype)


class _Collected:
    """Stands in for an empty cache while a prompt of any size is traced, and hands out what it would hold."""

    batch_size = None

    def __init__(self, config, tokens):
        self.config, self.keys, self.values = config, [], []
        self._positions = tf.range(tf.shape(tokens)[1])[None]

    def positions(self, n_tokens):
        return self._positions

    def key_positions(self, positions):
        return positions

    def visible(self, distance, key_positions):
        return distance >= 0

    def advance(self, counts):
        pass

    def layer(self, index, positions):
        return self

    def append(self, key, value):
        self.keys.append(key)
        self.values.append(value)
        return key, value


def accelerate(model: Decoder, threads: int | None = None) -> FastDecoder:
    """The `FastDecoder` of a decoder. threads: as many as the framework uses, unless told.

    The C++ is compiled on the first use on a machine, in about 5 seconds.
    Raises RuntimeError that names what to install where there is no C++ compiler; the model itself works without one.
    """
    return FastDecoder(model, threads)


def _threads():
    return tf.config.threading.get_intra_op_parallelism_threads() or native.cores()


def _address(array):
    return array.__array_interface__["data"][0]  # ten times as quick as array.ctypes.data


def _vector(variable):
    return to_numpy(variable)


def _linear_layers(model):
    for index, block in enumerate(model.decoder.layers):
        for part, names in (
            ("self_attention", ("query", "key", "value", "output")),
            ("feed_forward", ("gate", "up", "down")),
        ):
            for name in names:
                layer = getattr(getattr(block, part), name)
                if layer is not None:
                    yield f"decoder.layers.{index}.{part}.{name}", layer
    if getattr(model, "head", None) is not None:
        yield "head", model.head


def _matrix(layer):
    bias = None if layer.bias is None else np.ascontiguousarray(_vector(layer.bias))
    if isinstance(layer, QuantizedLinear):
        return _packed(layer, bias)
    table = _table(layer.kernel, "columns")
    return native.Matrix(table.address, table.format, *table.owner.shape, bias=bias, owner=table.owner)


def _packed(layer, bias):
    how = layer.quantization
    form = f"int{how.weight_bits}" + (" a8" if how.activation_bits else "")
    places = layer.packed.ctypes.data, layer.scale.ctypes.data
    return native.Matrix(places[0], form, layer.d_in, layer.d_out, places[1], how.group_size or 0, bias, layer)


def _table(variable: keras.Variable, order):
    weight = np.asarray(variable.value.read_value())  # the variable's own memory, not a copy, on a CPU
    d_out, d_in = weight.shape
    return native.Matrix(weight.ctypes.data, f"{weight.dtype.name} {order}", d_in, d_out, owner=weight)
