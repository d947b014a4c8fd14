"""The embeddings and the stack of blocks of a model."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor, rotary_frequencies, scaled_by_length
from tfguide.tensorflow.blocks import DecoderBlock, EncoderBlock
from tfguide.tensorflow.linear import embedding, linear
from tfguide.tensorflow.masks import Mask, padding_mask
from tfguide.tensorflow.norms import make_norm
from tfguide.tensorflow.positions import (
    alibi_bias,
    frequencies_of,
    relative_bias,
    rotary_angles,
    sinusoidal_positions,
    text_lengths,
)


class Embeddings(keras.layers.Layer):
    """The sum of the embeddings of tokens, positions and token types. (B, T) to (B, T, D)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        if config.d_input is None:
            self.token = embedding(config.vocab_size, config.d_model)
        else:
            self.projection = linear(config.d_input, config.d_model, compressed=False)
        if config.positions == "learned":
            self.position = embedding(config.max_positions + config.position_offset, config.d_model)
        if config.n_token_types:
            self.token_type = embedding(config.n_token_types, config.d_model)
        if config.embedding_norm:
            self.norm = make_norm(config)
        self.dropout = keras.layers.Dropout(config.dropout)
        self.built = True

    def call(self, tokens, positions, token_types=None):
        """tokens: (B, T), or vectors (B, T, d_input); positions: (B, T) or (1, T); token_types: (B, T), default: 0."""
        x = self.token(tokens) if self.config.d_input is None else self.projection(tokens)
        x = x * self.config.embedding_scale
        if self.config.positions == "learned":
            x = x + self.position(positions + self.config.position_offset)
        if self.config.positions == "sinusoidal":
            x = x + tf.cast(sinusoidal_positions(positions, self.config.d_model), x.dtype)
        if self.config.n_token_types:
            x = x + self.token_type(tf.zeros_like(tokens) if token_types is None else token_types)
        return self.dropout(self.norm(x) if self.config.embedding_norm else x)


class EncoderStack(keras.layers.Layer):
    """Blocks in which every position sees every valid position, and the final norm. (B, T, D) to (B, T, D)."""

    causal = False

    def __init__(self, config: ModelConfig, n_layers: int):
        super().__init__(autocast=False)
        self.config = config
        self.layers = [self._block(config, layer) for layer in range(n_layers)]
        if config.positions == "relative":
            self.relative_bias = embedding(config.relative_buckets, config.n_heads)
        if config.final_norm:
            self.final_norm = make_norm(config)
        self.built = True

    def call(self, x, positions, valid=None, record=None):
        """x: (B, T, D); positions: (1, T); valid: (B, T), True at real tokens; record: as in the blocks."""
        for layer, terms in zip(self.layers, self.block_terms(positions, valid), strict=True):
            x = layer(x, **terms, record=record)
        return self.final_norm(x) if self.config.final_norm else x

    def _block(self, config, layer):
        return EncoderBlock(config, layer)

    def block_terms(self, positions, valid=None):
        """What each block takes beside x: `visible`, `bias` and `rotation`, see `MultiHeadAttention`."""
        bias, rotation = self.position_terms(positions, positions, self._text_lengths(positions, valid))
        visible = None if valid is None else padding_mask(valid)  # (B, 1, T)
        return [{"visible": visible, "bias": bias, "rotation": rotation}] * len(self.layers)

    def position_terms(self, positions, key_positions, lengths, slides=False):
        """The bias (B, H, T, S) on the scores and the angles of the rotation, each None if the model has none.

        lengths: (B or 1, T or 1), of the texts, where a scaling of the rotation chooses its frequencies by them.
        slides: whether the layer sees a window only.
        """
        config, bias, rotation = self.config, None, None
        if config.positions == "rotary":
            rotation = self._rotation(positions, lengths, slides)
        if config.positions == "alibi":
            bias = alibi_bias(positions, key_positions, config.n_heads)
        if config.positions == "relative":
            table, distance = self.relative_bias.embeddings, config.relative_max_distance
            bias = relative_bias(positions, key_positions, table, not self.causal, distance)
        return bias, rotation

    def _text_lengths(self, positions, valid, cache=None):
        if not scaled_by_length(self.config.rope_scaling):
            return None
        return text_lengths(positions, valid) if cache is None else cache.text_lengths()

    def _rotation(self, positions, lengths, slides):
        theta, scaling = self.config.rope(slides)
        if scaled_by_length(scaling):
            frequencies = frequencies_of(lengths, self.config.d_rotary, theta, scaling)
        else:
            frequencies = rotary_frequencies(self.config.d_rotary, theta, scaling)
        return rotary_angles(positions, frequencies, attention_factor(scaling))


class DecoderStack(EncoderStack):
    """Blocks in which a position sees itself, the positions before it and the encoder's output, if there is one."""

    causal = True

    def call(self, x, positions, valid=None, memory=None, memory_valid=None, record=None, cache=None, watch=None):
        """memory: (B, S, D); memory_valid: (B, S); the rest as in `EncoderStack`.

        cache: a `View`, one call on a cache; `positions` (B, T) are then those of the new tokens in each row.
        watch: called with the input of the first block and with the output of each block.
        """
        terms = self.block_terms(positions, valid, cache)
        memory_visible = None if memory_valid is None else padding_mask(memory_valid)  # (B, 1, S)
        for index, layer in enumerate(self.layers):
            if watch is not None:
                watch(x)
            part = None if cache is None else cache.layer(index)
            x = layer(x, **terms[index], memory=memory, memory_visible=memory_visible, record=record, cache=part)
        if watch is not None:
            watch(x)
        return self.final_norm(x) if self.config.final_norm else x

    def block_terms(self, positions, valid=None, cache=None):
        """What each block takes beside x: `visible`, `bias` and `rotation`, see `MultiHeadAttention`."""
        slides = [self.config.slides(layer) for layer in range(len(self.layers))]
        terms = {kind: self._terms(positions, valid, cache, kind) for kind in set(slides)}
        return [terms[kind] for kind in slides]

    def _terms(self, positions, valid, cache, slides):
        """What the layers with a window take, or those without."""
        lengths = self._text_lengths(positions, valid, cache)
        cache = None if cache is None else cache.part(slides)
        key_positions = positions if cache is None else cache.key_positions  # (B or 1, S)
        bias, rotation = self.position_terms(positions, key_positions, lengths, slides)
        visible = self._mask(positions, key_positions, valid, cache, slides)
        return {"visible": visible, "bias": bias, "rotation": rotation}

    def _mask(self, positions, key_positions, valid, cache, slides):
        """What each query may see: itself and the positions before it, within the window and without padding."""
        distance = positions[:, :, None] - key_positions[:, None, :]  # (B, T, S)
        visible = distance >= 0 if cache is None else cache.visible(distance)
        T, S = visible.shape[1:]
        if slides:
            mask = Mask(visible & (distance < self.config.sliding_window), "window")
        elif cache is not None and cache.is_first and T == S > 1:
            mask = Mask(visible[:1], "causal")  # the same for every row
        else:
            mask = Mask(visible)
        if valid is not None and cache is None:  # in a cache, padding lies after each row's end, unseen
            mask = Mask(mask.visible & padding_mask(valid), "padding")
        return mask

    def _block(self, config, layer):
        return DecoderBlock(config, layer)
