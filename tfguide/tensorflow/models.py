"""Whole models: encoder, decoder and encoder-decoder, from a configuration and a weight dictionary."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tfguide.checks.shapes import (
    check_config,
    check_memory,
    check_pooler,
    check_real_tokens,
    check_token_range,
    check_token_types,
    check_tokens,
    check_valid,
)
from tfguide.config import ModelConfig
from tfguide.generation.caching import check_cached_call, check_padding_at_end
from tfguide.tensorflow.linear import linear
from tfguide.tensorflow.stack import DecoderStack, Embeddings, EncoderStack
from tfguide.weights import attention_names, check_dtype, check_weights, weight_shapes


class _Model(keras.Model):
    """A Keras model that takes tokens and masks as lists, arrays or tensors, as the PyTorch models do."""

    def __call__(self, *inputs, **options):
        # Keras takes tensors only, and would read a list of lists as a nest of scalars.
        options = {k: v if k in NOT_TENSORS else _as_tensor(v) for k, v in options.items()}
        return super().__call__(*map(_as_tensor, inputs), **options)


NOT_TENSORS = ("record", "cache", "training")


def _as_tensor(value):
    return None if value is None else tf.convert_to_tensor(value)


class Encoder(_Model):
    """Tokens (B, T) to hidden states (B, T, D) in which every position has seen every other: BERT's family."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "encoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_layers)
        if config.pooler:
            self.pooler = linear(config.d_model, config.d_model)
        self.built = True

    def call(self, tokens, valid=None, token_types=None, record=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T)."""
        tokens, valid = as_tokens(self, tokens, valid)
        token_types = as_token_types(self, tokens, token_types)
        positions = tf.range(tf.shape(tokens)[1])[None]
        return self.encoder(self.embedding(tokens, positions, token_types), positions, valid, record=record)

    def pool(self, hidden):
        """BERT's summary of a sequence, from its hidden states (B, T, D): tanh of a map of the first one, (B, D)."""
        check_pooler(self.config)
        return tf.tanh(self.pooler(hidden[:, 0]))


class Decoder(_Model):
    """Tokens (B, T) to logits (B, T, V) in which a position has seen only what came before: GPT's family."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "decoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = linear(config.d_model, config.vocab_size, bias=False)
        self.built = True

    def call(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T).

        cache: a `KVCache` that holds what came before the tokens, and takes them up. `valid` may then mark padding
        at the end of each row only.
        """
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def hidden(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits; arguments as in the call."""
        tokens, valid = as_tokens(self, tokens, valid)
        token_types = as_token_types(self, tokens, token_types)
        positions = next_positions(self, tokens, valid, cache, record)
        x = self.embedding(tokens, positions, token_types)
        x = self.decoder(x, positions, valid, record=record, cache=cache)
        if cache is not None:
            cache.advance(tokens.shape[1] if valid is None else count_valid(valid))
        return x

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V)."""
        hidden = hidden * self.config.logit_scale
        if self.config.tied_head and self.quantization is None:  # a quantised copy of a tied head is a head
            return tf.matmul(hidden, self.embedding.token.embeddings, transpose_b=True)
        return self.head(hidden)


class EncoderDecoder(_Model):
    """Source (B, S) and target (B, T) tokens to logits (B, T, V): T5's family, and the original Transformer."""

    logits = Decoder.logits

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "encoder-decoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_encoder_layers)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = linear(config.d_model, config.vocab_size, bias=False)
        self.built = True

    def call(self, source, target, source_valid=None, target_valid=None, record=None):
        """source: integers (B, S); target: integers (B, T), starting with the decoder's start token.

        source_valid, target_valid: boolean, the shapes of the tokens, True at real tokens.
        """
        source, source_valid = as_tokens(self, source, source_valid, "source")
        memory = self.encode(source, source_valid, record)
        return self.decode(target, memory, target_valid, source_valid, record)

    def encode(self, source, source_valid=None, record=None):
        """Source tokens (B, S) to the encoder's hidden states (B, S, D), the memory of the decoder."""
        source, source_valid = as_tokens(self, source, source_valid, "source")
        positions = tf.range(tf.shape(source)[1])[None]
        return self.encoder(self.embedding(source, positions), positions, source_valid, record=record)

    def decode(self, target, memory, target_valid=None, source_valid=None, record=None, cache=None):
        """Target tokens (B, T) and the memory (B, S, D) to logits (B, T, V); cache: as in `Decoder`."""
        return self.logits(self.hidden(target, memory, target_valid, source_valid, record, cache))

    def hidden(self, target, memory, target_valid=None, source_valid=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits; arguments as in `decode`."""
        target, target_valid = as_tokens(self, target, target_valid, "target")
        check_memory(tuple(memory.shape), (*target.shape, self.config.d_model), self.config.d_model)
        positions = next_positions(self, target, target_valid, cache, record)
        x = self.embedding(target, positions)
        x = self.decoder(x, positions, target_valid, memory, source_valid, record=record, cache=cache)
        if cache is not None:
            cache.advance(target.shape[1] if target_valid is None else count_valid(target_valid))
        return x


def from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The model of a configuration with the weights of a canonical dictionary (see `tfguide.weight_shapes`).

    The model is ready for inference; the arrays are copied. dtype: of the weights and activations, "float32",
    "bfloat16" or "float16"; norms, softmax and rotary angles are computed in float32 whatever it is.
    Raises ValueError for a missing, extra or wrongly shaped weight, or another dtype.
    """
    check_weights(config, weights)
    check_dtype(dtype)
    model = empty_model(config, dtype)
    for name in weight_shapes(config):
        variable_of(model, name).assign(weights[name])
    return model


def empty_model(config, dtype="float32"):
    """A model with weights of a type, of no particular values."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        return {"encoder": Encoder, "decoder": Decoder, "encoder-decoder": EncoderDecoder}[config.kind](config)
    finally:
        keras.config.set_dtype_policy(policy)


def to_weights(model: Encoder | Decoder | EncoderDecoder) -> dict[str, np.ndarray]:
    """The canonical dictionary of a model's weights, float32 copies: what `from_weights` took.

    Of a quantised model: what its weights stand for.
    """
    return {name: to_numpy(variable_of(model, name)).copy() for name in weight_shapes(model.config)}


def attention_maps(model, *inputs, **masks) -> dict[str, tf.Tensor]:
    """The weights (B, H, T, S) of every attention layer by name; arguments as in the model's call."""
    maps = []
    model(*inputs, **masks, record=maps.append)
    return dict(zip(attention_names(model.config), maps, strict=True))


def sentence_embeddings(model: Encoder, tokens, valid=None, token_types=None) -> tf.Tensor:
    """One vector of length 1 for each row: the mean of its hidden states at real tokens, normalised; (B, D).

    Source: Reimers & Gurevych 2019. Raises ValueError where a row has no real token.
    """
    check_config(model.config, "encoder")
    hidden = model(tokens, valid=valid, token_types=token_types)
    if valid is None:
        mean = tf.reduce_mean(hidden, axis=1)
    else:
        valid = tf.convert_to_tensor(valid)
        if tf.executing_eagerly():
            check_real_tokens(bool(tf.reduce_all(tf.reduce_any(valid, axis=1))))
        valid = tf.cast(valid, hidden.dtype)
        mean = tf.einsum("btd,bt->bd", hidden, valid) / tf.reduce_sum(valid, axis=1, keepdims=True)
    return mean / tf.norm(mean, axis=1, keepdims=True)


def as_tokens(model, tokens, valid=None, name="tokens"):
    """Token ids and their padding mask as tensors, checked against the model's configuration."""
    tokens = tf.convert_to_tensor(tokens)
    check_tokens(name, tuple(tokens.shape), tokens.dtype.is_integer, tokens.dtype.name, model.config.max_positions)
    tokens = _in_range(name, tokens, model.config.vocab_size)
    if valid is not None:
        valid = tf.convert_to_tensor(valid)
        check_valid("valid", tuple(valid.shape), valid.dtype == tf.bool, valid.dtype.name, tuple(tokens.shape))
    return tf.cast(tokens, tf.int32), valid


def as_token_types(model, tokens, token_types):
    """Token types as a tensor, checked against the model and the tokens; None stays None."""
    if token_types is None:
        return None
    token_types = tf.convert_to_tensor(token_types)
    check_tokens("token_types", tuple(token_types.shape), token_types.dtype.is_integer, token_types.dtype.name)
    check_token_types(model.config, tuple(token_types.shape), tuple(tokens.shape))
    token_types = _in_range("token_types", token_types, model.config.n_token_types)
    return tf.cast(token_types, tf.int32)


def next_positions(model, tokens, valid, cache, record):
    """Where new tokens stand: (1, T) from 0, or (B, T) behind what a cache holds. Raises ValueError."""
    if cache is None:
        return tf.range(tf.shape(tokens)[1])[None]
    check_cached_call(model.config, cache.config, cache.batch_size, tokens.shape[0], record is not None)
    if valid is not None:
        check_padding_at_end(bool(tf.reduce_all(valid[:, :-1] | ~valid[:, 1:])))
    return cache.positions(tokens.shape[1])


def count_valid(valid):
    """How many tokens of each row are real: boolean (B, T) to int32 (B,)."""
    return tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)


def _in_range(name, tokens, vocab_size):
    """The tokens, checked. A traced graph has no values to look at yet: there the check runs before their first use."""
    if tf.executing_eagerly():
        check_token_range(name, int(tf.reduce_min(tokens)), int(tf.reduce_max(tokens)), vocab_size)
        return tokens
    message = f"{name} must lie between 0 and {vocab_size - 1}"
    within = [
        tf.debugging.assert_non_negative(tokens, message),
        tf.debugging.assert_less(tokens, tf.cast(vocab_size, tokens.dtype), message),
    ]
    with tf.control_dependencies([check for check in within if check is not None]):  # None: settled while tracing
        return tf.identity(tokens)


def to_numpy(value) -> np.ndarray:
    """A variable, a tensor or an array as float32, copied only where the type changes."""
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value, np.float32)


def variable_of(model, name):
    """The Keras variable behind a canonical name, which is the path of attributes that leads to it."""
    *path, last = name.split(".")
    layer = model
    for step in path:
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step)
    if last == "weight" and hasattr(layer, "kernel"):  # a dense layer, quantised or not
        last = "kernel"
    if last == "weight" and isinstance(layer, keras.layers.Embedding):
        last = "embeddings"
    return getattr(layer, last)
