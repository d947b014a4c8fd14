"""The fast path of decoding: the C++ kernels of `tfguide.native` read a model's weights in place."""

from __future__ import annotations

import itertools
import os

import keras
import numpy as np
import tensorflow as tf
from tensorflow import TensorSpec

from tfguide import native
from tfguide.checkpoints import Blocks
from tfguide.checks.values import check_count
from tfguide.compress.quantized import quantized_weights
from tfguide.dtypes import choose_cache_dtype
from tfguide.frequencies import scaled_by_length
from tfguide.generation.paged import check_paged_dtype
from tfguide.tensorflow.cache import ArrayStorage, Int4KVCache, KVCache, PromptView, cache_of_type
from tfguide.tensorflow.experts import StackedLinear
from tfguide.tensorflow.fast.tree import prompt_tree
from tfguide.tensorflow.gguf import BlockEmbedding, BlockLinear, BlockStack
from tfguide.tensorflow.inputs import count_tokens, extend, positions_of
from tfguide.tensorflow.models import Decoder
from tfguide.tensorflow.quantized import QuantizedLinear, QuantizedStack
from tfguide.tensorflow.tensors import to_float32
from tfguide.tensorflow.verbs import Generator
from tfguide.tensorflow.weighted import layer_of
from tfguide.weights import vector_names


class FastDecoder(native.NativeGenerator, Generator):
    """A faster replacement for a model: the same arguments and the same results.

    The C++ kernels compute calls of up to 64 new tokens with a cache of `new_cache`, and prompts of any length if
    activations have 8 bits. They compute in float32 for every type of weights and of cache; but with bfloat16 weights
    and more than 4 tokens they round the inputs of products to bfloat16, where the processor multiplies that. The
    framework computes more tokens, caches of 4 bits and of other kinds, and attention maps, with kernels for some of
    its layers (see tree.py). The weights are shared with the model, not copied, so the model must not change. Threads
    may share a fast decoder if each has its own cache.

    With 8-bit activations the result for a row is the same to the last bit, whatever the other rows hold and however a
    prompt is split into chunks of 8 tokens or more. Fewer new tokens attend in another order of sums, and are the same
    among themselves. Otherwise the number of tokens in a call decides which code computes, and a row may be
    rounded differently in a batch than alone: with float32 activations by the order of sums, about 1e-6 of the largest
    logit; with activations in bfloat16 or float16, or a cache of a smaller type, by a few roundings to that type. Two
    logits closer than that may swap ranks.

    Raises ValueError for a model that is not decoder-only or has relative positions, NativeUnavailable (a RuntimeError)
    if there is no C++ compiler: see `accelerate`.
    """

    def __init__(self, model: Decoder, threads: int | None = None):
        native.check(model.config)
        threads = _threads() if threads is None else check_count("threads", threads)
        vectors = {name: model.weight_of(name) for name in vector_names(model.config)}
        linear = _linear_layers(model)
        matrices = {own: matrix for name, layer in linear.items() for own, matrix in _matrices(name, layer, threads)}
        embedding = _table(model.embedding.token, threads)
        super().__init__(model.config, embedding, matrices, vectors, threads)
        self.model, self.quantization, self.compute_dtype = model, model.quantization, model.compute_dtype
        self.has_small_weights = model.has_small_weights
        self._prompt_tree = prompt_tree(model, linear, matrices, threads)
        # The weights of quantised layers, and of those in blocks, are no variables that a graph could take.
        # A scaling that depends on the length of each row asks the cache for it, which a graph cannot; with experts, a
        # graph computes more than the layers do.
        plain = self.quantization is None and not model.block_types and not scaled_by_length(self.config.rope_scaling)
        readers = native.CACHE_TYPES if plain and self.config.experts is None else ()
        self._read_first = {dtype: self._prompt_reader(tf.as_dtype(dtype)) for dtype in readers}

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked: the tokens follow those in the cache, and are added to it."""
        if token_types is not None or record is not None or not self.shares(cache):
            return self._prompt_tree.read(tokens, cache, valid, token_types, record)
        view = extend(self, tokens, valid, cache, record)  # raises if the tokens do not fit
        if self.reads(cache, tokens.shape.num_elements()):
            if valid is not None and cache.ring is not None:
                return tf.constant(self.run_valid(tokens.numpy(), valid.numpy(), cache))
            hidden = tf.constant(self.run_kernels(tokens.numpy(), cache))
        elif cache.dense and view.is_first and cache.storage.dtype.name in self._read_first:
            hidden, parts = self._read_first[cache.storage.dtype.name](tokens)
            cache.storage.fill(parts, np.broadcast_to(count_tokens(tokens, valid), cache.lengths.shape))
        else:
            return self._prompt_tree.read(tokens, cache, valid)
        cache.advance(count_tokens(tokens, valid))
        return hidden

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """The head: hidden states (..., D) to logits (..., V)."""
        rows = hidden.shape.num_elements() // self.config.d_model
        rounds = self.head.format.endswith("a8")  # then the kernels are fast for any number of rows
        if rows > native.HEAD_ROWS and not rounds:
            return self._prompt_tree.logits(hidden if self.head.is_packed else tf.cast(hidden, self.compute_dtype))
        logits = self.multiply_head(to_float32(hidden).reshape(rows, self.config.d_model))
        return tf.reshape(tf.constant(logits), (*hidden.shape[:-1], -1))

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache | Int4KVCache:
        """An empty cache for the model, in memory that the kernels can use.

        cache_dtype: "float32", "bfloat16", "float16", "int8" (a `QuantizedKVCache`) or "int4" (an `Int4KVCache`);
        default: the type of the activations, but float16 if the weights are quantised, or in blocks, and the
        activations are float32. Raises as `KVCache`, and ValueError for another type.
        """
        dtype = choose_cache_dtype(cache_dtype, self.compute_dtype, self.has_small_weights)
        return cache_of_type(self.config, batch_size, max_length, dtype, ArrayStorage)

    def new_storage(self, batch_size: int, n_slots: int, cache_dtype: str | None = None) -> ArrayStorage:
        """The tensors of a cache with `n_slots` in every layer, where the model can use them."""
        dtype = choose_cache_dtype(cache_dtype, self.compute_dtype, self.has_small_weights)
        return ArrayStorage(self.config, batch_size, n_slots, check_paged_dtype(dtype))

    def _prompt_reader(self, dtype):
        """A function that reads prompts (B, T) for an empty cache of this type: their hidden states, and what to cache.

        Blocks of one kind, with a window or without, are one program with other weights, so that one graph, traced at
        the first call, serves all of them. Tracing a graph of the whole model takes seconds.
        """
        tree = self._prompt_tree
        kinds = [self.config.slides(layer) for layer in range(self.config.n_layers)]
        programs = {kind: self._block_reader(kinds.index(kind), dtype) for kind in set(kinds)}

        def read(tokens):
            positions = positions_of(tokens, None)
            x, parts = tree.embedding(tokens, positions), []
            for kind, layer in zip(kinds, tree.decoder.layers, strict=True):
                x, part = programs[kind]([weight.value.read_value() for weight in layer.variables], x, positions)
                parts.append(part)
            x = tree.decoder.final_norm(x) if self.config.final_norm else x
            return x, {name: [part[name] for part in parts] for name in parts[0]}

        return read

    def _block_reader(self, index, dtype):
        """One block as a function of its weights, its input (B, T, D) and the positions (1, T)."""
        stack = self._prompt_tree.decoder
        first = stack.layers[index]
        state = TensorSpec((None, None, self.config.d_model), first.compute_dtype)
        weights = [TensorSpec(weight.shape, weight.dtype) for weight in first.variables]
        # Some blocks may be frozen, and others not: only the order of `variables` is the same in all of them.
        places = {id(weight): place for place, weight in enumerate(first.variables)}
        kinds = first.trainable_variables, first.non_trainable_variables

        @tf.function(input_signature=[weights, state, TensorSpec((1, None), tf.int32)], autograph=False)
        def block(weights, x, positions):
            view = PromptView(self.config, dtype, positions)
            terms = stack.block_terms(positions, None, view)[index]
            parts = ([weights[places[id(weight)]] for weight in kind] for kind in kinds)
            x, _ = first.stateless_call(*parts, x, **terms, cache=view.layer(0))
            return x, {name: layers[0] for name, layers in view.tensors.items()}

        return block


def accelerate(model: Decoder, threads: int | None = None) -> FastDecoder:
    """The `FastDecoder` of a decoder. threads: default: TFGUIDE_THREADS, or as many as the
    framework uses.

    The first use on a machine compiles the C++ in about 10 seconds. Raises RuntimeError that says what to install if
    there is no C++ compiler; the model itself works without one.
    """
    return FastDecoder(model, threads)


def _threads():
    variable = os.environ.get("TF_NUM_INTRAOP_THREADS", "")  # TensorFlow reads it, and does not show it in its settings
    named = tf.config.threading.get_intra_op_parallelism_threads()
    return native.default_threads(named or (int(variable) if variable.isdigit() else 0))


def _linear_layers(model):
    """The linear layers whose weights `quantized_weights` lists, by their names in the model."""
    names = (name for name, weight in quantized_weights(model.config).items() if weight.is_compressed)
    has_head = model.quantization is not None or not model.config.tied_head
    paths = (name.removesuffix(".weight") for name in names if has_head or name != "head.weight")
    return {path: layer_of(model, path) for path in paths}


def _matrices(name, layer, threads):
    """The matrix of a linear layer by its name, or those of expert e, with ".e" behind the name."""
    if not isinstance(layer, (StackedLinear, QuantizedStack, BlockStack)):
        yield name, _matrix(layer, threads, None if layer.bias is None else to_float32(layer.bias))
        return
    biases = itertools.repeat(None) if layer.bias is None else to_float32(layer.bias)
    for e, (own, bias) in enumerate(zip(_parts(layer), biases, strict=False)):
        yield f"{name}.{e}", _matrix(own, threads, bias)


def _parts(stack):
    """The weight of each expert: an array (in, out), a layer, or blocks."""
    if isinstance(stack, QuantizedStack):
        return stack.layers
    if isinstance(stack, BlockStack):
        blocks = stack.blocks
        return [Blocks(blocks.block_type, blocks.shape[1:], rows) for rows in blocks.data]
    return _array_of(stack.weight)


def _matrix(layer, threads, bias):
    bias = None if bias is None else np.ascontiguousarray(bias)
    if isinstance(layer, QuantizedLinear):
        rounds = layer.quantization.activation_bits is not None
        return native.Matrix.of_packed(layer.packed, layer.scale, layer.d_in, layer.d_out, rounds, bias, layer.unit)
    if isinstance(layer, (BlockLinear, Blocks)):
        return native.matrix_of_blocks(layer.blocks if isinstance(layer, BlockLinear) else layer, bias, threads)
    return native.Matrix.of(layer if isinstance(layer, np.ndarray) else _array_of(layer.kernel), "columns", bias)


def _table(layer, threads):
    """The rows of an embedding."""
    if isinstance(layer, BlockEmbedding):
        return native.matrix_of_blocks(layer.blocks, threads=threads)
    return native.Matrix.of(_array_of(layer.embeddings), "rows")


def _array_of(variable: keras.Variable):
    return np.asarray(variable.value.read_value())  # the variable's own memory, not a copy, on a CPU
