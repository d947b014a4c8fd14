"""Qwen2, Qwen2.5: Llama with biases of queries, keys and values, as `transformers.Qwen2ForCausalLM` has it (5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.windows import layer_types
from tfguide.config import ModelConfig

MODEL_TYPE = "qwen2"
ARCHITECTURE = "Qwen2ForCausalLM"
READS = "Qwen2Model and Qwen2ForCausalLM"
INERT = ("attention_dropout", "is_decoder")

# `head_dim` is no field of its configuration's class, but the attention asks for it.
DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if not key.endswith("_bias")} | dict(
    vocab_size=151936, intermediate_size=22016, num_key_value_heads=32, max_position_embeddings=32768,
    use_sliding_window=False, sliding_window=4096, max_window_layers=28, layer_types=None,
)  # fmt: skip
ALIASES: dict[str, str] = {}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
places, plain = llama.places, llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    return llama.sizes(fields, DEFAULTS) | dict(qkv_bias=True)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return llama.decoder(fields, sizes(fields), INERT)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Qwen2 cannot express is not in them."""
    return llama.keys(config) | {
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "layer_types": layer_types(config),
    }
