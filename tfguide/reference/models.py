"""Whole models: encoder, decoder and encoder-decoder, from a configuration and a weight dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfguide.checks.shapes import (
    check_config,
    check_labels,
    check_memory,
    check_pooler,
    check_real_tokens,
    check_token_range,
    check_token_types,
    check_tokens,
    check_valid,
    check_vectors,
)
from tfguide.config import ModelConfig
from tfguide.generation import greedy, pad_prompts, stopping
from tfguide.generation.checks import check_generation
from tfguide.reference.linear import Linear, assign
from tfguide.reference.modified import softcap
from tfguide.reference.stack import DecoderStack, Embeddings, EncoderStack
from tfguide.weights import check_weights


class Encoder:
    """Tokens (B, T) to hidden states (B, T, D) in which every position has seen every other: BERT's family."""

    def __init__(self, config: ModelConfig):
        check_config(config, "encoder")
        self.config = config
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_layers)
        if config.pooler:
            self.pooler = Linear(config.d_model, config.d_model)
        if config.labels is not None:
            self.labels = Linear(config.d_model, config.labels.n_labels)

    def __call__(self, tokens, valid=None, token_types=None, record=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T).

        With `d_input` in the configuration, tokens are vectors (B, T, d_input).
        """
        tokens, valid = as_tokens(self.config, tokens, valid)
        token_types = as_token_types(self.config, tokens, token_types)
        positions = np.arange(tokens.shape[1])[None]
        return self.encoder(self.embedding(tokens, positions, token_types), positions, valid, record=record)

    def pool(self, hidden):
        """BERT's vector of a sequence, (B, D): tanh of a linear map of the first of its hidden states (B, T, D)."""
        check_pooler(self.config)
        return np.tanh(self.pooler(hidden[:, 0]))

    def classify(self, hidden, valid=None):
        """The logits of the labels for hidden states (B, T, D): (B, n_labels), or (B, T, n_labels) for each token.

        valid: boolean (B, T), True at real tokens, of which a mean is taken.
        """
        check_labels(self.config)
        if self.config.labels.per == "text":
            hidden = self.pool(hidden) if self.config.pooler else mean_of_real(hidden, valid)
        return self.labels(hidden)


class Decoder:
    """Tokens (B, T) to logits (B, T, V) in which a position has seen only what came before: GPT's family."""

    def __init__(self, config: ModelConfig):
        check_config(config, "decoder")
        self.config = config
        self.embedding = Embeddings(config)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = Linear(config.d_model, config.vocab_size, bias=False)

    def __call__(self, tokens, valid=None, token_types=None, record=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T)."""
        tokens, valid = as_tokens(self.config, tokens, valid)
        token_types = as_token_types(self.config, tokens, token_types)
        positions = np.arange(tokens.shape[1])[None]
        x = self.embedding(tokens, positions, token_types)
        return self.logits(self.decoder(x, positions, valid, record=record))

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V)."""
        hidden = hidden * self.config.logit_scale
        logits = hidden @ self.embedding.token.weight.T if self.config.tied_head else self.head(hidden)
        return softcap(logits, self.config.logit_softcap)


class EncoderDecoder:
    """Source (B, S) and target (B, T) tokens to logits (B, T, V): T5's family, and the original Transformer."""

    logits = Decoder.logits

    def __init__(self, config: ModelConfig):
        check_config(config, "encoder-decoder")
        self.config = config
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_encoder_layers)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = Linear(config.d_model, config.vocab_size, bias=False)

    def __call__(self, source, target, source_valid=None, target_valid=None, record=None):
        """source: integers (B, S); target: integers (B, T), starting with the decoder's start token.

        source_valid, target_valid: boolean, the shapes of the tokens, True at real tokens.
        """
        source, source_valid = as_tokens(self.config, source, source_valid, "source")
        memory = self.encode(source, source_valid, record)
        return self.decode(target, memory, target_valid, source_valid, record)

    def encode(self, source, source_valid=None, record=None):
        """Source tokens (B, S) to the encoder's hidden states (B, S, D), the memory of the decoder."""
        source, source_valid = as_tokens(self.config, source, source_valid, "source")
        positions = np.arange(source.shape[1])[None]
        return self.encoder(self.embedding(source, positions), positions, source_valid, record=record)

    def decode(self, target, memory, target_valid=None, source_valid=None, record=None):
        """Target tokens (B, T) and the memory (B, S, D) to logits (B, T, V)."""
        target, target_valid = as_tokens(self.config, target, target_valid, "target")
        check_memory(memory.shape, (*target.shape, self.config.d_model), self.config.d_model)
        positions = np.arange(target.shape[1])[None]
        x = self.embedding(target, positions)
        return self.logits(self.decoder(x, positions, target_valid, memory, source_valid, record=record))


def from_weights(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Encoder | Decoder | EncoderDecoder:
    """The model of a configuration with the weights of a canonical dictionary (see `tfguide.weight_shapes`).

    Raises ValueError for a missing, extra or wrongly shaped weight.
    """
    check_weights(config, weights)
    model = {"encoder": Encoder, "decoder": Decoder, "encoder-decoder": EncoderDecoder}[config.kind](config)
    assign(model, weights)
    return model


def forward(config: ModelConfig, weights: Mapping[str, np.ndarray], *inputs, **masks) -> np.ndarray:
    """The model's output in one call: `from_weights(config, weights)(*inputs, **masks)`, float64."""
    return from_weights(config, weights)(*inputs, **masks)


def sentence_embeddings(model: Encoder, tokens, valid=None, token_types=None) -> np.ndarray:
    """One vector of length 1 for each row: the mean of its hidden states at real tokens, normalised; (B, D).

    Source: Reimers & Gurevych 2019. Raises ValueError where a row has no real token.
    """
    check_config(model.config, "encoder")
    mean = mean_of_real(model(tokens, valid, token_types), valid)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def mean_of_real(hidden, valid=None):
    """The mean of the hidden states (B, T, D) at real tokens, where valid (B, T) is True: (B, D). Raises ValueError."""
    valid = np.ones(hidden.shape[:2], bool) if valid is None else np.asarray(valid)
    check_real_tokens(valid.any(axis=1).all())
    return np.einsum("btd,bt->bd", hidden, valid) / valid.sum(axis=1, keepdims=True)


def generate(
    model: Decoder | EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    stop_tokens: Sequence[int] | None = None,
) -> list[list[int]]:
    """Greedy generation without a cache: each token computes all positions again.

    Cached generation must give the same tokens. Arguments, result and errors are those of `tfguide.torch.generate`.
    """
    tokens, lengths = pad_prompts(prompts, model.config.vocab_size)
    max_new_tokens, stop_tokens = stopping(model.config, max_new_tokens, stop_tokens)
    check_generation(model.config, int(lengths.max()), max_new_tokens)
    rows = []
    for prompt, length in zip(tokens, lengths, strict=True):
        source = prompt[None, :length]
        start = source if model.config.kind == "decoder" else np.array([[model.config.decoder_start_token_id]])
        row, new = start, []
        while len(new) < max_new_tokens and not (new and new[-1] in stop_tokens):
            logits = model(row) if model.config.kind == "decoder" else model(source, row)
            new.append(int(greedy(logits[:, -1])[0]))
            row = np.append(start, [new], axis=1)
        rows.append(new)
    return rows


def as_tokens(config, tokens, valid=None, name="tokens"):
    """Token ids and their padding mask as arrays, checked against the configuration."""
    tokens, limit = np.asarray(tokens), config.max_positions
    if config.d_input is None:
        check_tokens(name, tokens.shape, tokens.dtype.kind in "iu", tokens.dtype, limit)
        check_token_range(name, tokens.min(), tokens.max(), config.vocab_size)
    else:
        check_vectors(name, tokens.shape, tokens.dtype.kind == "f", tokens.dtype, config.d_input, limit)
    if valid is not None:
        valid = np.asarray(valid)
        check_valid("valid", valid.shape, valid.dtype == bool, valid.dtype, tokens.shape[:2])
    return tokens, valid


def as_token_types(config, tokens, token_types):
    """Token types as an array, checked against the configuration and the tokens; None stays None."""
    if token_types is None:
        return None
    token_types = np.asarray(token_types)
    check_tokens("token_types", token_types.shape, token_types.dtype.kind in "iu", token_types.dtype)
    check_token_types(config, token_types.shape, tokens.shape)
    check_token_range("token_types", token_types.min(), token_types.max(), config.n_token_types)
    return token_types
