"""Fewer key/value heads: a multi-head or grouped checkpoint as grouped-query or multi-query."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.weights import check_weights, weight_table


def pool_kv_heads(
    config: ModelConfig, weights: Mapping[str, np.ndarray], n_kv_heads: int
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """A model whose key/value heads are means of neighbouring ones: its configuration and weights.

    Query heads keep their order, so that a query head reads the mean of the key/value heads of its new group. The cache
    shrinks to n_kv_heads / K. If the heads of a group are equal, the result does not change; otherwise the quality
    falls until the model is trained further (Ainslie et al. 2023, section 2.1: 5% of the pre-training).

    Raises ValueError if `n_kv_heads` does not divide the model's, and for latent attention.
    """
    check_weights(config, weights)
    if config.latent is not None:
        raise ValueError("latent attention has no key/value heads to pool: all heads share one cached vector")
    n_kv_heads = check_count("n_kv_heads", n_kv_heads)
    K, d = config.n_kv_heads, config.d_head
    if K % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide the {K} key/value heads of the model, got {n_kv_heads}")
    result, table = {}, weight_table(config)
    for name, array in weights.items():
        if table[name].axes[-1] == ("K", "d"):
            heads = array.reshape(*array.shape[:-1], n_kv_heads, K // n_kv_heads, d)
            array = heads.mean(axis=-2).reshape(*array.shape[:-1], n_kv_heads * d)
        result[name] = array
    return config.replace(n_kv_heads=n_kv_heads), result
