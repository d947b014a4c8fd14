"""A seeded initialisation of the weights: a tensor's role and axes determine its standard deviation."""

from __future__ import annotations

import math
import zlib

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.weights import TABLE_ROLES, weight_table


def init_weights(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A new float32 dictionary of weights, the same for one seed on every platform and in both frameworks.

    Matrices are normal with standard deviation `1 / sqrt(in)`, so that activations keep their size; those that write
    into the residual stream are divided by `sqrt(2 L)` (Radford et al. 2019, section 2.3). Embeddings have standard
    deviation 0.02, sinks 1; biases are 0, norm weights are 1. Each tensor has its own random stream, keyed by its name:
    changing one size does not change the other tensors.

    Raises TypeError if the seed is not an integer, ValueError if it is negative.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    seed = check_count("seed", seed, least=0)
    return {name: _init(config, weight, seed) for name, weight in weight_table(config).items()}


def _init(config, weight, seed) -> np.ndarray:
    if weight.role == "bias":
        return np.zeros(weight.shape, np.float32)
    if weight.role == "norm":
        return np.ones(weight.shape, np.float32)
    stream = np.random.default_rng([seed, zlib.crc32(weight.name.encode())])
    array = stream.standard_normal(weight.shape, dtype=np.float32)
    array *= np.float32(_deviation(config, weight))
    return array


def _deviation(config, weight) -> float:
    if weight.role == "sinks":
        return 1.0
    if weight.role in TABLE_ROLES:
        return 1.0 if weight.role == "relative_bias" else 0.02
    deviation = weight.shape[-2] ** -0.5
    if weight.part in ("attention", "feed_forward") and weight.axes[-1] == ("D",):
        deviation /= math.sqrt(2 * config.n_layers)
    if weight.axes[-1] in (("H", "d"), ("H", "d_nope+d_rope")):
        # Scores have the same variance whether the scale is in the formula or, as in T5, in the weights.
        deviation /= config.attention_scale * math.sqrt(config.d_head)
    return deviation
