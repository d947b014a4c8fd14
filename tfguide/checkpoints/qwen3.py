"""Qwen3: Llama with norms of queries and keys, as `transformers.Qwen3ForCausalLM` computes it (version 5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama, qwen2
from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig

MODEL_TYPE = "qwen3"
ARCHITECTURE = "Qwen3ForCausalLM"
READS = "Qwen3Model and Qwen3ForCausalLM"
INERT = qwen2.INERT

DEFAULTS = qwen2.DEFAULTS | dict(head_dim=128, attention_bias=False)
ALIASES: dict[str, str] = {}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
places, plain = llama.places, llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    return llama.sizes(fields, DEFAULTS) | dict(qk_norm=True)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return llama.decoder(fields, sizes(fields), INERT)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Qwen3 cannot express is not in them."""
    return qwen2.config_to_hf(config) | {"attention_bias": config.qkv_bias}
