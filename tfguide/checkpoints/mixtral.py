"""Mixtral: Mistral with experts in every layer, as `transformers.MixtralForCausalLM` computes it (version 5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama, mistral
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.layout import Place, Stack
from tfguide.checkpoints.mixtures import experts
from tfguide.config import ModelConfig
from tfguide.parts import Experts

MODEL_TYPE = "mixtral"
ARCHITECTURE = "MixtralForCausalLM"
READS = "MixtralModel and MixtralForCausalLM"
# What the router adds to a loss, and noise that it has in training.
INERT = ("attention_dropout", "is_decoder", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise")

DEFAULTS = mistral.DEFAULTS | dict(sliding_window=None, num_local_experts=8, num_experts_per_tok=2)
ALIASES = {"num_experts": "num_local_experts"}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED


def plain(name: str) -> str:
    """A tensor's name in a published file, from any of its spellings: transformers 5 computes with another module."""
    return llama.plain(name).replace(".mlp.", ".block_sparse_moe.")


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)
    known = llama.sizes(fields, DEFAULTS)
    n_experts, per_token = (fields.count(key, DEFAULTS[key]) for key in ("num_local_experts", "num_experts_per_tok"))
    return known | dict(experts=Experts(n_experts=n_experts, per_token=per_token, d_expert=known["d_ff"]))


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return llama.decoder(fields, sizes(fields), INERT, norm_eps=1e-5, theta=1e6, bos_token_id=1, eos_token_id=2)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Mixtral cannot express is not in them."""
    if config.experts is None:
        raise ValueError("experts=None, and this family has experts in every layer")
    return llama.keys(config) | {
        "intermediate_size": config.experts.d_expert,
        "sliding_window": config.sliding_window,
        "num_local_experts": config.experts.n_experts,
        "num_experts_per_tok": config.experts.per_token,
    }


def places(config: ModelConfig) -> dict[str, Place | Stack]:
    """Where each canonical weight lies: as in Llama, but for the experts."""
    result: dict[str, Place | Stack] = dict(llama.places(config))
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}.feed_forward", f"layers.{layer}.block_sparse_moe"
        for part in ("gate", "up", "down"):
            del result[f"{ours}.{part}.weight"]
        result |= experts(config, ours, theirs, own=("w1", "w3", "w2"))
    return result
