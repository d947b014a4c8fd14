"""Qwen3's mixtures of experts, as `transformers.Qwen3MoeForCausalLM` computes them (version 5.23)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.layout import Place, Stack
from tfguide.checkpoints.mixtures import experts
from tfguide.config import ModelConfig
from tfguide.parts import Experts

MODEL_TYPE = "qwen3_moe"
ARCHITECTURE = "Qwen3MoeForCausalLM"
READS = "Qwen3MoeModel and Qwen3MoeForCausalLM"
INERT = ("attention_dropout", "is_decoder", "output_router_logits", "router_aux_loss_coef")

# `head_dim` is no field of its configuration's class, but the attention asks for it.
DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if key != "mlp_bias"} | dict(
    vocab_size=151936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=24, num_attention_heads=32,
    num_key_value_heads=4, max_position_embeddings=32768, use_sliding_window=False, sliding_window=4096,
    num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=False,
    decoder_sparse_step=1, mlp_only_layers=None,
)  # fmt: skip
ALIASES = {"num_local_experts": "num_experts"}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
plain = llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)

    def count(key):
        return fields.count(key, DEFAULTS[key])

    known = llama.sizes(fields, DEFAULTS)
    mixture = Experts(
        n_experts=count("num_experts"),
        per_token=count("num_experts_per_tok"),
        d_expert=count("moe_intermediate_size"),
        normalised=fields.flag("norm_topk_prob", DEFAULTS["norm_topk_prob"]),
        n_dense_layers=_dense_layers(fields),
    )
    return known | dict(qk_norm=True, experts=mixture)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return llama.decoder(fields, sizes(fields), INERT)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Qwen3's mixtures cannot express is not in them."""
    if config.experts is None:
        raise ValueError("experts=None, and this family has experts")
    return llama.keys(config) | {
        "attention_bias": config.qkv_bias,
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "num_experts": config.experts.n_experts,
        "num_experts_per_tok": config.experts.per_token,
        "moe_intermediate_size": config.experts.d_expert,
        "norm_topk_prob": config.experts.normalised,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(range(config.experts.n_dense_layers)),
    }


def places(config: ModelConfig) -> dict[str, Place | Stack]:
    """Where each canonical weight lies: as in Llama, but for the experts."""
    result: dict[str, Place | Stack] = dict(llama.places(config))
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        if config.has_experts(layer):
            for part in ("gate", "up", "down"):
                del result[f"{ours}.feed_forward.{part}.weight"]
            result |= experts(config, f"{ours}.feed_forward", f"{theirs}.mlp")
    return result


def _dense_layers(fields):
    """How many layers at the beginning have no experts. Raises ValueError where others have none."""
    layers = fields.entries("mlp_only_layers", DEFAULTS["mlp_only_layers"])
    period = fields.count("decoder_sparse_step", DEFAULTS["decoder_sparse_step"])
    supported = "layers without experts are known at the beginning only, as mlp_only_layers names them"
    if period != 1:
        raise fields.unsupported("decoder_sparse_step", period, supported)
    dense = sorted(set(layers or ()))
    if dense != list(range(len(dense))):
        raise fields.unsupported("mlp_only_layers", layers, supported)
    return len(dense)
