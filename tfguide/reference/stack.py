"""The embeddings of a model and its stacks of blocks."""

from __future__ import annotations

import numpy as np

from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor, rotary_frequencies
from tfguide.reference.attention import causal_mask, padding_mask
from tfguide.reference.blocks import DecoderBlock, EncoderBlock
from tfguide.reference.linear import Embedding, Linear
from tfguide.reference.norms import make_norm
from tfguide.reference.positions import alibi_bias, relative_bias, rotary_angles, sinusoidal_positions


class Embeddings:
    """Tokens to vectors, with what is added to them: positions and token types. (B, T) to (B, T, D)."""

    def __init__(self, config: ModelConfig):
        self.config = config
        if config.d_input is None:
            self.token = Embedding(config.vocab_size, config.d_model)
        else:
            self.projection = Linear(config.d_input, config.d_model)
        if config.positions == "learned":
            self.position = Embedding(config.max_positions + config.position_offset, config.d_model)
        if config.n_token_types:
            self.token_type = Embedding(config.n_token_types, config.d_model)
        if config.embedding_norm:
            self.norm = make_norm(config)

    def __call__(self, tokens, positions, token_types=None):
        """tokens: (B, T), or vectors (B, T, d_input); positions: (B, T) or (1, T); token_types: (B, T), default: 0."""
        x = self.token(tokens) if self.config.d_input is None else self.projection(tokens)
        x = x * self.config.embedding_scale
        if self.config.positions == "learned":
            x = x + self.position(positions + self.config.position_offset)
        if self.config.positions == "sinusoidal":
            x = x + sinusoidal_positions(positions, self.config.d_model)
        if self.config.n_token_types:
            x = x + self.token_type(np.zeros_like(tokens) if token_types is None else token_types)
        return self.norm(x) if self.config.embedding_norm else x


class EncoderStack:
    """Blocks in which every position sees every valid one, and the final norm. (B, T, D) to (B, T, D)."""

    causal = False

    def __init__(self, config: ModelConfig, n_layers: int):
        self.config = config
        self.layers = [self._block(config, layer) for layer in range(n_layers)]
        if config.positions == "relative":
            self.relative_bias = Embedding(config.relative_buckets, config.n_heads)
        if config.final_norm:
            self.final_norm = make_norm(config)

    def __call__(self, x, positions, valid=None, record=None):
        """x: (B, T, D); positions: (1, T); valid: (B, T), True at real tokens; record: as in the blocks."""
        visible = None if valid is None else padding_mask(valid)  # (B, 1, T)
        bias, rotation = self._position_terms(positions, valid)
        for layer in self.layers:
            x = layer(x, visible, bias, rotation, record=record)
        return self.final_norm(x) if self.config.final_norm else x

    def _block(self, config, layer):
        return EncoderBlock(config, layer)

    def _position_terms(self, positions, valid, slides=False):
        """The bias (1, H, T, T) on the scores and the angles of the heads, where the model has them.

        slides: whether the layer sees a window only.
        """
        config, bias, rotation = self.config, None, None
        if config.positions == "rotary":
            (theta, scaling), ends = config.rope(slides), positions + 1
            lengths = (ends if valid is None else ends * valid).max(axis=1, keepdims=True)  # (B or 1, 1), of the texts
            frequencies = rotary_frequencies(config.d_rotary, theta, scaling, lengths)
            rotation = rotary_angles(positions, frequencies, attention_factor(scaling))
        if config.positions == "alibi":
            bias = alibi_bias(positions, positions, config.n_heads)
        if config.positions == "relative":
            table, distance = self.relative_bias.weight, config.relative_max_distance
            bias = relative_bias(positions, positions, table, not self.causal, distance)
        return bias, rotation


class DecoderStack(EncoderStack):
    """Blocks in which a position sees itself, the positions before it, and an encoder's output where there is one."""

    causal = True

    def __call__(self, x, positions, valid=None, memory=None, memory_valid=None, record=None):
        """memory: (B, S, D); memory_valid: (B, S); the rest as in `EncoderStack`."""
        memory_visible = None if memory_valid is None else padding_mask(memory_valid)  # (B, 1, S)
        for index, layer in enumerate(self.layers):
            slides = self.config.slides(index)
            visible = causal_mask(x.shape[1], window=self.config.sliding_window if slides else None)  # (T, T)
            if valid is not None:
                visible = visible & padding_mask(valid)  # (B, T, T)
            bias, rotation = self._position_terms(positions, valid, slides)
            x = layer(x, visible, bias, rotation, memory, memory_visible, record=record)
        return self.final_norm(x) if self.config.final_norm else x

    def _block(self, config, layer):
        return DecoderBlock(config, layer)
