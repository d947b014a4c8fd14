"""Mistral: Llama with a window in all layers or in none, as `transformers.MistralForCausalLM` has it (version 5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig

MODEL_TYPE = "mistral"
ARCHITECTURE = "MistralForCausalLM"
READS = "MistralModel and MistralForCausalLM"
INERT = ("attention_dropout", "is_decoder")

DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if not key.endswith("_bias")} | dict(
    intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=4096 * 32, sliding_window=4096
)
ALIASES: dict[str, str] = {}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
places, plain = llama.places, llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    return llama.sizes(fields, DEFAULTS)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return llama.decoder(fields, sizes(fields), INERT, bos_token_id=1, eos_token_id=2)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Mistral cannot express is not in them."""
    return llama.keys(config) | {"sliding_window": config.sliding_window}
