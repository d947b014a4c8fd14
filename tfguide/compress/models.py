"""Smaller and sparser models: this folder's arithmetic on the weights of a model, which is not changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.compress import heads, pruning
from tfguide.compress.calibration import Inputs
from tfguide.compress.quantization import Quantization
from tfguide.compress.quantized import pack_weights
from tfguide.compress.weighted import Weighted


def quantize(
    model: Weighted,
    weight_bits: int = 8,
    activation_bits: int | None = None,
    group_size: int = 32,
    asymmetric: bool | None = None,
    calibration: Any = None,
) -> Weighted:
    """A copy of a model whose linear layers have weights of 8 or 4 bits; `model.quantization` says how.

    8 bits: a scale for each output. 4 bits: two weights to a byte, a scale for each `group_size` inputs of an output;
    asymmetric: also a minimum for each group, in the same number of bits; default: of 4-bit weights. activation_bits: 8
    rounds the inputs of the layers in blocks of 32; None does not. Embeddings, norms and the routers of experts are not
    quantised; a tied head becomes a quantised copy of the embedding. The model itself is not changed.

    calibration: tokens (B, T) of text like that which the model will read, for second-order rounding: the model reads
    them layer by layer, and each weight is rounded so that it makes up for the errors of those before it. Some
    thousands of tokens are enough. Default: rounding to the nearest level, which experts always have, since each reads
    few of the tokens. Source: Frantar et al. 2022 (GPTQ).

    Raises ValueError for a model that is quantised already, other numbers of bits, a group size that does not divide
    the inputs of a layer, weights that are NaN or infinite, or a calibration of an encoder-decoder; TypeError or
    ValueError for tokens that the model does not read.
    """
    if model.quantization is not None:
        raise ValueError(f"the model is quantised already: {model.quantization}")
    quantization = Quantization(weight_bits, activation_bits, group_size, asymmetric)
    if calibration is None:
        return model.with_quantized(quantization, pack_weights(model.config, quantization, model.weight_of))
    inputs = Inputs(model, calibration)
    return model.with_quantized(quantization, pack_weights(model.config, quantization, model.weight_of, inputs.gram_of))


def to_weights(model: Weighted) -> dict[str, np.ndarray]:
    """The canonical dictionary of a model's weights, as float32 copies: the input of `from_weights`.

    A quantised model, or one in blocks, gives its dequantised weights.
    """
    return model.to_weights()


def prune_magnitude(model: Weighted, sparsity: float, scope: str = "layer", calibration: Any = None) -> Weighted:
    """The model with the smallest entries of its linear layers set to 0; see `tfguide.compress.pruning`.

    scope: "layer" takes that share of each matrix, "output" of the inputs of each output, "global" of all together.
    calibration: tokens (B, T) of text like that which the model will read: an entry then counts as its magnitude times
    the root mean square of its input. Experts count by magnitude, since each reads few of the tokens. Source: Han et
    al. 2015; calibrated: Sun et al. 2023 (Wanda), where the scope is "output".

    Raises ValueError for a sparsity outside [0, 1), another scope, a quantised model, a calibration of an
    encoder-decoder or of experts in the scope "global"; TypeError or ValueError for tokens that the model does not
    read.
    """
    weights, gram_of = _weights(model), _gram_of(model, calibration)
    return model.with_weights(model.config, pruning.prune_magnitude(model.config, weights, sparsity, scope, gram_of))


def prune_two_four(model: Weighted, calibration: Any = None) -> Weighted:
    """The model with the 2 smallest of every 4 consecutive inputs of each output set to 0.

    calibration: tokens (B, T), as in `prune_magnitude`. Source: Mishra et al. 2021; calibrated: Sun et al. 2023.
    Raises ValueError for a quantised model, and as `prune_magnitude` for the calibration.
    """
    weights, gram_of = _weights(model), _gram_of(model, calibration)
    return model.with_weights(model.config, pruning.prune_two_four(model.config, weights, gram_of))


def prune_heads(model: Weighted, n_kv_heads: int) -> Weighted:
    """A smaller model: each attention keeps the `n_kv_heads` key/value heads that matter most, with their queries.

    Raises ValueError for more heads than exist, positions that depend on a head's index, or a quantised model.
    """
    return model.with_weights(*pruning.prune_heads(model.config, _weights(model), n_kv_heads))


def prune_neurons(model: Weighted, d_ff: int) -> Weighted:
    """A smaller model: each feed-forward network keeps the `d_ff` neurons that matter most.

    Raises ValueError for more neurons than exist, or a quantised model.
    """
    return model.with_weights(*pruning.prune_neurons(model.config, _weights(model), d_ff))


def prune_layers(model: Weighted, layers: Sequence[int]) -> Weighted:
    """A smaller model without the blocks `layers`; `layer_changes` tells which change least.

    Raises ValueError for a block that does not exist, one named twice, all of them, or a quantised model.
    """
    return model.with_weights(*pruning.prune_layers(model.config, _weights(model), layers))


def layer_changes(model: Weighted, tokens: np.ndarray) -> list[float]:
    """How much each block changes its input for some tokens (B, T): 1 - the mean cosine between input and output.

    Source: Men et al. 2024. Raises ValueError for a model that is not decoder-only.
    """
    pruning.check_decoder(model.config)
    return pruning.least_change(model.hidden_states(tokens))


def pool_kv_heads(model: Weighted, n_kv_heads: int) -> Weighted:
    """The model with fewer key/value heads, each the mean of neighbouring ones: grouped-query or multi-query attention.

    Raises ValueError if `n_kv_heads` does not divide the model's, or for a quantised model.
    Source: Ainslie et al. 2023, section 2.1.
    """
    return model.with_weights(*heads.pool_kv_heads(model.config, _weights(model), n_kv_heads))


def _gram_of(model, calibration):
    """Of the inputs of a layer by its path: X^T X for the tokens of a calibration; None without one."""
    return None if calibration is None else Inputs(model, calibration).gram_of


def _weights(model):
    pruning.check_not_quantized(model)
    return model.to_weights()
