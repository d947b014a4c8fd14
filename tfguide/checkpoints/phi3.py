"""Phi-3 and Phi-4-mini: Llama's layers with fused matrices and heads that may be rotated in part, as
`transformers.Phi3ForCausalLM` computes them (version 5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.layout import Place, fused
from tfguide.checkpoints.rotary import partial_rope, share_keys
from tfguide.config import ModelConfig
from tfguide.scalings import LongRopeScaling

MODEL_TYPE = "phi3"
ARCHITECTURE = "Phi3ForCausalLM"
READS = "Phi3Model and Phi3ForCausalLM"
INERT = ("attention_dropout", "embd_pdrop", "is_decoder")

# `head_dim` is no field of its configuration's class, but the attention asks for it.
DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if not key.endswith("_bias")} | dict(
    vocab_size=32064, hidden_size=3072, intermediate_size=8192, max_position_embeddings=4096, sliding_window=None
)
ALIASES: dict[str, str] = {}

# What the class takes each name of a scaling for.
_KINDS = {"default": "default", "longrope": "longrope", "su": "longrope", "yarn": "longrope"}
_TRAINED = 4096  # positions, where `original_max_position_embeddings` is absent

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
plain = llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    return llama.sizes(fields, DEFAULTS)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    known = sizes(fields)
    d_head = known["d_head"] or known["d_model"] // known["n_heads"]
    theta, scaling, d_rotary = partial_rope(fields, known["max_positions"], d_head, kinds=_KINDS, trained=_TRAINED)
    fields.count("original_max_position_embeddings", _TRAINED)  # which a scaling has taken already
    known |= dict(rope_theta=theta, rope_scaling=scaling, d_rotary=d_rotary)
    return llama.decoder(fields, known, INERT, norm_eps=1e-5, bos_token_id=1, eos_token_id=32000, pad_token_id=32000)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Phi-3 cannot express is not in them."""
    keys, scaling = llama.keys(config), config.rope_scaling
    long = isinstance(scaling, LongRopeScaling)
    return keys | {
        "rope_parameters": keys["rope_parameters"] | share_keys(config),
        "sliding_window": config.sliding_window,
        "original_max_position_embeddings": scaling.original_max_positions
        if long
        else config.max_positions or _TRAINED,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies: as in Llama, but for the matrices that share a tensor."""
    places = llama.places(config)
    heads = {"query": config.n_heads, "key": config.n_kv_heads, "value": config.n_kv_heads}
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        attention = {f"{ours}.self_attention.{part}": n * config.d_head for part, n in heads.items()}
        places |= fused(attention, f"{theirs}.self_attn.qkv_proj", bias=False)
        network = {f"{ours}.feed_forward.{part}": config.d_ff for part in ("gate", "up")}
        places |= fused(network, f"{theirs}.mlp.gate_up_proj", bias=False)
    return places
