"""Whole models: encoder, decoder and encoder-decoder, from a configuration and a weight dictionary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tfguide.checkpoints import Blocks
from tfguide.checks.shapes import check_config, check_labels, check_memory, check_pooler, check_real_tokens
from tfguide.compress import Quantization
from tfguide.config import ModelConfig
from tfguide.torch.calibration import grams
from tfguide.torch.inputs import as_token_types, as_tokens, count_tokens, extend, positions_of
from tfguide.torch.linear import left_out
from tfguide.torch.modified import softcap
from tfguide.torch.stack import DecoderStack, Embeddings, EncoderStack
from tfguide.torch.tensors import as_tensor, to_float32
from tfguide.torch.verbs import Generator
from tfguide.torch.weighted import Weighted
from tfguide.weights import check_dtype, check_weights


class Encoder(Weighted, nn.Module):
    """Tokens (B, T) to hidden states (B, T, D), where every position attends to every other: BERT's family."""

    grams = grams

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "encoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.encoder = EncoderStack(config, config.n_layers)
        if config.pooler:
            self.pooler = nn.Linear(config.d_model, config.d_model)
        if config.labels is not None:
            self.labels = nn.Linear(config.d_model, config.labels.n_labels)

    def forward(self, tokens, valid=None, token_types=None, record=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T).

        With `d_input` in the configuration, tokens are vectors (B, T, d_input).
        """
        tokens, valid = as_tokens(self, tokens, valid)
        token_types = as_token_types(self, tokens, token_types)
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        return self.encoder(self.embedding(tokens, positions, token_types), positions, valid, record=record)

    def pool(self, hidden):
        """BERT's pooled output: tanh of a linear map of the first hidden state, (B, T, D) to (B, D)."""
        check_pooler(self.config)
        return torch.tanh(self.pooler(hidden[:, 0]))

    def classify(self, hidden, valid=None):
        """The logits of the labels for hidden states (B, T, D): (B, n_labels), or (B, T, n_labels) for each token.

        valid: boolean (B, T), True at real tokens, of which a mean is taken.
        """
        check_labels(self.config)
        if self.config.labels.per == "text":
            hidden = self.pool(hidden) if self.config.pooler else mean_of_real(hidden, valid)
        return self.labels(hidden)


class Decoder(Generator, Weighted, nn.Module):
    """Tokens (B, T) to logits (B, T, V), where a position attends to itself and those before it: GPT's family."""

    grams = grams

    def __init__(self, config: ModelConfig):
        super().__init__()
        check_config(config, "decoder")
        self.config, self.quantization = config, None
        self.embedding = Embeddings(config)
        self.decoder = DecoderStack(config, config.n_layers)
        if not config.tied_head:
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """tokens: integers (B, T); valid: boolean (B, T), True at real tokens; token_types: integers (B, T).

        cache: a `KVCache` of the positions before the tokens, to which the tokens are appended. `valid` may then mark
        padding only at the end of each row.
        """
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked: the tokens follow those in the cache, and are added to it."""
        view = extend(self, tokens, valid, cache, record)
        x = self.trunk(tokens, positions_of(tokens, view), valid, token_types, record, view)
        if view is not None:
            view.commit(count_tokens(tokens, valid))
        return x

    def trunk(self, tokens, positions, valid=None, token_types=None, record=None, cache=None, watch=None):
        """The forward pass below the head for checked tensors: hidden states (B, T, D).

        positions: (B or 1, T); cache: a `View`; watch: as in `DecoderStack`; the rest as in the call.
        """
        x = self.embedding(tokens, positions, token_types)
        return self.decoder(x, positions, valid, record=record, cache=cache, watch=watch)

    @torch.inference_mode()
    def hidden_states(self, tokens) -> list[np.ndarray]:
        """The input of the first block and the output of each block for tokens (B, T): float32 arrays (B, T, D)."""
        tokens, _ = as_tokens(self, tokens)
        states = []
        self.trunk(tokens, positions_of(tokens, None), watch=states.append)
        return [to_float32(x) for x in states]

    def logits(self, hidden):
        """The head: hidden states (..., D) to logits (..., V)."""
        hidden = hidden * self.config.logit_scale
        tied = self.config.tied_head and self.quantization is None  # quantisation copies a tied head
        logits = hidden @ self.embedding.token.weight.T if tied else self.head(hidden)
        return softcap(logits, self.config.logit_softcap)


class EncoderDecoder(Generator, Weighted, nn.Module):
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
            self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(self, source, target, source_valid=None, target_valid=None, record=None):
        """source: integers (B, S); target: integers (B, T), starting with the decoder's start token.

        source_valid, target_valid: boolean, shaped as the tokens, True at real tokens.
        """
        source, source_valid = as_tokens(self, source, source_valid, "source")
        memory = self.encode(source, source_valid, record)
        return self.logits(self.hidden(target, memory, target_valid, source_valid, record))

    def encode(self, source, source_valid=None, record=None):
        """Source tokens (B, S) to the encoder's hidden states (B, S, D), the memory of the decoder."""
        source, source_valid = as_tokens(self, source, source_valid, "source")
        positions = torch.arange(source.shape[1], device=source.device)[None]
        return self.encoder(self.embedding(source, positions), positions, source_valid, record=record)

    def hidden(self, target, memory, target_valid=None, source_valid=None, record=None, cache=None):
        """Target tokens (B, T) and the memory (B, S, D) to the hidden states (B, T, D) that the head turns into logits.

        cache: as in `Decoder`; the masks as in the call.
        """
        target, target_valid = as_tokens(self, target, target_valid, "target")
        check_memory(tuple(memory.shape), (*target.shape, self.config.d_model), self.config.d_model)
        return self._attend(target, memory, target_valid, source_valid, record, cache)

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of target tokens that have been checked and follow those in the cache, given the cache's memory."""
        memory, memory_valid = cache.memory
        return self._attend(tokens, memory, valid, memory_valid, record, cache)

    def _attend(self, target, memory, target_valid, source_valid, record, cache):
        view = extend(self, target, target_valid, cache, record)
        positions = positions_of(target, view)
        x = self.embedding(target, positions)
        x = self.decoder(x, positions, target_valid, memory, source_valid, record=record, cache=view)
        if view is not None:
            view.commit(count_tokens(target, target_valid))
        return x


def from_weights(
    config: ModelConfig, weights: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The model of a configuration with the weights of a canonical dictionary (see `tfguide.weight_shapes`).

    The model is ready for inference; the arrays are copied. dtype: the type of the weights and activations, "float32",
    "bfloat16" or "float16"; norms, softmax and rotary angles are always computed in float32.
    Raises ValueError for a missing, extra or wrongly shaped weight, or another dtype.
    """
    check_weights(config, weights)
    check_dtype(dtype)
    return empty_model(config, dtype).fill(weights)


def from_quantized(
    config: ModelConfig, quantization: Quantization, arrays: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The quantised model with the given arrays, by name: see `tfguide.compress.quantized.quantized_shapes`."""
    return empty_model(config, dtype).fill_quantized(quantization, arrays)


def from_blocks(config: ModelConfig, arrays: Mapping[str, Blocks | np.ndarray]) -> Encoder | Decoder | EncoderDecoder:
    """The model with the weights of `tfguide.checkpoints.read_blocks`: blocks stay blocks, activations are float32."""
    return empty_model(config).fill_blocks(arrays)


def empty_model(config: ModelConfig, dtype: str = "float32") -> Encoder | Decoder | EncoderDecoder:
    """A model whose weights have shapes and a type, but no memory and no values."""
    kind = {"encoder": Encoder, "decoder": Decoder, "encoder-decoder": EncoderDecoder}[config.kind]
    with left_out():
        return kind(config).to(getattr(torch, dtype))


def sentence_embeddings(model: Encoder, tokens, valid=None, token_types=None) -> Tensor:
    """One vector of length 1 for each row: the mean of its hidden states at real tokens, normalised; (B, D).

    Source: Reimers & Gurevych 2019. Raises ValueError if a row has no real token.
    """
    check_config(model.config, "encoder")
    mean = mean_of_real(model(tokens, valid, token_types), valid)
    return mean / mean.norm(dim=1, keepdim=True)


def mean_of_real(hidden: Tensor, valid=None) -> Tensor:
    """The mean of the hidden states (B, T, D) at real tokens, where valid (B, T) is True: (B, D). Raises ValueError."""
    if valid is None:
        return hidden.mean(dim=1)
    valid = as_tensor(valid, hidden.device)
    if not torch.compiler.is_compiling():
        check_real_tokens(bool(valid.any(dim=1).all()))
    return torch.einsum("btd,bt->bd", hidden, valid.to(hidden.dtype)) / valid.sum(dim=1, keepdim=True)
