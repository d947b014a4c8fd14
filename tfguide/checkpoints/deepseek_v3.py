"""DeepSeek-V3: latent attention and experts, as `transformers.DeepseekV3ForCausalLM` computes it (version 5.23)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.layout import Place, Stack, linear, norm
from tfguide.checkpoints.mixtures import experts
from tfguide.config import ModelConfig
from tfguide.parts import Experts, LatentAttention
from tfguide.scalings import YarnScaling
from tfguide.weights import weight_table

MODEL_TYPE = "deepseek_v3"
ARCHITECTURE = "DeepseekV3ForCausalLM"
READS = "DeepseekV3Model and DeepseekV3ForCausalLM"
# num_nextn_predict_layers: of modules that draft tokens, which lie in the files as one more layer.
INERT = (
    "attention_dropout", "pretraining_tp", "is_decoder", "output_router_logits", "qk_head_dim", "router_aux_loss_coef",
    "num_nextn_predict_layers", "num_mtp_layers", "ep_size", "aux_loss_alpha", "seq_aux", "scoring_func",
    "topk_method", "moe_layer_freq",
)  # fmt: skip

DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if key != "mlp_bias"} | dict(
    vocab_size=129280, hidden_size=7168, intermediate_size=18432, num_hidden_layers=61, num_attention_heads=128,
    num_key_value_heads=128, max_position_embeddings=4096, n_routed_experts=256, num_experts_per_tok=8,
    moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3, n_group=8, topk_group=4,
    norm_topk_prob=True, routed_scaling_factor=2.5, kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128,
    qk_rope_head_dim=64, v_head_dim=128,
)  # fmt: skip
ALIASES = {"num_local_experts": "n_routed_experts"}

PREFIX, UNPREFIXED, HEADS, plain = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.plain
# What transformers passes over: the published model's module that drafts tokens, behind its 61 layers.
SKIPPED = re.compile(rf"{llama.SKIPPED.pattern}|layers\.61\..*")


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)
    known = llama.sizes(fields, DEFAULTS)
    latent = LatentAttention(
        kv_rank=fields.count("kv_lora_rank", DEFAULTS["kv_lora_rank"]),
        d_nope=fields.count("qk_nope_head_dim", DEFAULTS["qk_nope_head_dim"]),
        d_rope=fields.count("qk_rope_head_dim", DEFAULTS["qk_rope_head_dim"]),
        d_value=fields.count("v_head_dim", DEFAULTS["v_head_dim"]),
        query_rank=fields.count("q_lora_rank", DEFAULTS["q_lora_rank"], null=True),
    )
    return known | dict(latent=latent, n_kv_heads=None, d_head=None, experts=_experts(fields, known["n_layers"]))


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    fields.fixed("rope_interleave", True, "features that are rotated lie in pairs, side by side", null=False)
    heads = fields.count("num_attention_heads", DEFAULTS["num_attention_heads"])
    kv_heads = fields.count("num_key_value_heads", DEFAULTS["num_key_value_heads"], null=True)
    if kv_heads not in (None, heads):
        raise fields.unsupported("num_key_value_heads", kv_heads, f"expected that of num_attention_heads, {heads}")
    has_rotated = fields.has("head_dim")
    rotated = fields.count("head_dim", None, null=True)
    known = sizes(fields) | dict(n_heads=heads)
    rotated = (rotated or known["d_model"] // heads) if has_rotated else known["latent"].d_rope
    if rotated != known["latent"].d_rope:  # the class takes it for the number of features that are rotated
        raise fields.unsupported("head_dim", rotated, f"expected that of qk_rope_head_dim, {known['latent'].d_rope}")
    config = llama.decoder(fields, known, INERT, bos_token_id=0, eos_token_id=1)
    scaling = config.rope_scaling
    if scaling is None:
        return config
    if not isinstance(scaling, YarnScaling):
        raise ValueError(f"{fields.source}: rope_type must be 'default' or 'yarn' in this family, got {scaling.kind!r}")
    return config.replace(attention_scale=_sharpened(config.attention_scale, scaling))


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what DeepSeek-V3 cannot express is not in them."""
    latent, mixture = config.latent, config.experts
    if latent is None:
        raise ValueError("latent=None, and this family has latent attention")
    keys = llama.keys(config) | {
        "head_dim": latent.d_rope,
        "attention_bias": config.qkv_bias,
        "kv_lora_rank": latent.kv_rank,
        "q_lora_rank": latent.query_rank,
        "qk_nope_head_dim": latent.d_nope,
        "qk_rope_head_dim": latent.d_rope,
        "v_head_dim": latent.d_value,
        "first_k_dense_replace": config.n_layers if mixture is None else mixture.n_dense_layers,
    }
    return keys if mixture is None else keys | {
        "n_routed_experts": mixture.n_experts,
        "num_experts_per_tok": mixture.per_token,
        "moe_intermediate_size": mixture.d_expert,
        "n_shared_experts": mixture.n_shared,
        "n_group": mixture.n_groups,
        "topk_group": mixture.groups_per_token,
        "norm_topk_prob": mixture.normalised,
        "routed_scaling_factor": mixture.scale,
    }  # fmt: skip


def places(config: ModelConfig) -> dict[str, Place | Stack]:
    """Where each canonical weight lies: as in Llama, but for the attention and the experts."""
    result: dict[str, Place | Stack] = dict(llama.places(config))
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        result |= _attention(config, f"{ours}.self_attention", f"{theirs}.self_attn")
        if config.has_experts(layer):
            ours, theirs = f"{ours}.feed_forward", f"{theirs}.mlp"
            result |= experts(config, ours, theirs)
            result[f"{ours}.router.correction_bias"] = Place(f"{theirs}.gate.e_score_correction_bias")
            for part in ("gate", "up", "down"):
                result |= linear(f"{ours}.shared.{part}", f"{theirs}.shared_experts.{part}_proj", bias=False)
    return {name: place for name, place in result.items() if name in weight_table(config)}


def _attention(config, ours, theirs) -> Iterator[tuple[str, Place]]:
    latent, pairs = config.latent, (config.d_head, config.latent.d_nope)
    if latent.query_rank is None:
        yield f"{ours}.query.weight", Place(f"{theirs}.q_proj.weight", True, pairs=pairs)
    else:
        yield from linear(f"{ours}.query_down", f"{theirs}.q_a_proj", config.qkv_bias)
        yield from norm(f"{ours}.query_norm", f"{theirs}.q_a_layernorm", bias=False)
        yield f"{ours}.query_up.weight", Place(f"{theirs}.q_b_proj.weight", True, pairs=pairs)
    pairs = (latent.kv_rank + latent.d_rope, latent.kv_rank)
    yield f"{ours}.key_value_down.weight", Place(f"{theirs}.kv_a_proj_with_mqa.weight", True, pairs=pairs)
    if config.qkv_bias:
        yield f"{ours}.key_value_down.bias", Place(f"{theirs}.kv_a_proj_with_mqa.bias", pairs=pairs)
    yield from norm(f"{ours}.key_value_norm", f"{theirs}.kv_a_layernorm", bias=False)
    yield from linear(f"{ours}.key_value_up", f"{theirs}.kv_b_proj", bias=False)


def _sharpened(scale, scaling):
    """The scale of the scores: the factor of `mscale_all_dim` acts on all features of queries and of keys."""
    if scaling.mscale_all_dim is None or scaling.factor <= 1:
        return scale
    return scale * (0.1 * scaling.mscale_all_dim * math.log(scaling.factor) + 1.0) ** 2


def _experts(fields, n_layers):
    """The mixture, or None where every layer is dense."""

    def count(key, least=1):
        return fields.count(key, DEFAULTS[key], least)

    dense = fields.count("first_k_dense_replace", DEFAULTS["first_k_dense_replace"], least=0)
    mixture = dict(
        n_experts=count("n_routed_experts"), per_token=count("num_experts_per_tok"),
        d_expert=count("moe_intermediate_size"), n_shared=count("n_shared_experts", 0), n_groups=count("n_group"),
        groups_per_token=count("topk_group"), normalised=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", DEFAULTS["routed_scaling_factor"]),
    )  # fmt: skip
    if dense >= n_layers:
        return None
    return Experts(**mixture, n_dense_layers=dense, router="sigmoid", correction_bias=True)
