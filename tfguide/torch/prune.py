"""Smaller and sparser models: thin shells over `tfguide.compress`. The model itself is not changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tfguide.compress import heads, pruning
from tfguide.torch.attention import causal_mask
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder, as_tokens, from_weights, to_weights


def prune_magnitude(
    model: Encoder | Decoder | EncoderDecoder, sparsity: float, scope: str = "layer"
) -> Encoder | Decoder | EncoderDecoder:
    """The model with the smallest entries of its linear layers set to 0; see `tfguide.compress.pruning`.

    scope: "layer" takes that share of each matrix, "global" of all together. Raises ValueError for a sparsity outside
    [0, 1), another scope, or a quantised model.
    """
    weights = _weights(model)
    return _rebuilt(model, model.config, pruning.prune_magnitude(model.config, weights, sparsity, scope))


def prune_two_four(model: Encoder | Decoder | EncoderDecoder) -> Encoder | Decoder | EncoderDecoder:
    """The model with the 2 smallest of every 4 consecutive inputs of each output set to 0.

    Raises ValueError for a quantised model.
    """
    return _rebuilt(model, model.config, pruning.prune_two_four(model.config, _weights(model)))


def prune_heads(model: Encoder | Decoder | EncoderDecoder, n_kv_heads: int) -> Encoder | Decoder | EncoderDecoder:
    """A smaller model: each attention keeps the `n_kv_heads` key/value heads that matter most, with their queries.

    Raises ValueError for more heads than there are, positions that belong to heads by number, or a quantised model.
    """
    return _rebuilt(model, *pruning.prune_heads(model.config, _weights(model), n_kv_heads))


def prune_neurons(model: Encoder | Decoder | EncoderDecoder, d_ff: int) -> Encoder | Decoder | EncoderDecoder:
    """A smaller model: each feed-forward network keeps the `d_ff` neurons that matter most.

    Raises ValueError for more neurons than there are, or a quantised model.
    """
    return _rebuilt(model, *pruning.prune_neurons(model.config, _weights(model), d_ff))


def prune_layers(
    model: Encoder | Decoder | EncoderDecoder, layers: Sequence[int]
) -> Encoder | Decoder | EncoderDecoder:
    """A smaller model without the blocks `layers`; `layer_changes` tells which change least.

    Raises ValueError for a block that is not there, one named twice, all of them, or a quantised model.
    """
    return _rebuilt(model, *pruning.prune_layers(model.config, _weights(model), layers))


def layer_changes(model: Decoder, tokens: np.ndarray) -> list[float]:
    """How much each block changes its input on some tokens (B, T): 1 - the mean cosine between input and output.

    Source: Men et al. 2024. Raises ValueError for a model that is not decoder-only.
    """
    pruning.check_decoder(model.config)
    tokens, _ = as_tokens(model, tokens)
    positions = torch.arange(tokens.shape[1])[None]
    visible = causal_mask(tokens.shape[1], window=model.config.sliding_window)
    bias, rotation = model.decoder._position_terms(positions, positions)
    with torch.no_grad():
        hidden = [model.embedding(tokens, positions)]
        for block in model.decoder.layers:
            hidden.append(block(hidden[-1], visible, bias, rotation))
    return pruning.least_change([x.float().numpy() for x in hidden])


def pool_kv_heads(model: Encoder | Decoder | EncoderDecoder, n_kv_heads: int) -> Encoder | Decoder | EncoderDecoder:
    """The model with fewer key/value heads, each the mean of neighbouring ones: grouped-query or multi-query attention.

    Raises ValueError where `n_kv_heads` does not divide the model's, or for a quantised model.
    Source: Ainslie et al. 2023, section 2.1.
    """
    return _rebuilt(model, *heads.pool_kv_heads(model.config, _weights(model), n_kv_heads))


def _weights(model):
    pruning.check_not_quantized(model)
    return to_weights(model)


def _rebuilt(model, config, weights):
    return from_weights(config, weights, str(model.embedding.token.weight.dtype).removeprefix("torch."))
