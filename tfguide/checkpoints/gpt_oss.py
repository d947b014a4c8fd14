"""gpt-oss: experts with clamped gates, sinks, and windows in every other layer, as transformers 5.23 computes it.

Its class is `transformers.GptOssForCausalLM`. Published weights of experts are in MXFP4; they are dequantised.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.layout import Packed, Place, linear
from tfguide.checkpoints.windows import layer_types
from tfguide.config import ModelConfig
from tfguide.parts import CLAMPED_SLOPE, Experts

MODEL_TYPE = "gpt_oss"
ARCHITECTURE = "GptOssForCausalLM"
READS = "GptOssModel and GptOssForCausalLM"
INERT = (
    "attention_dropout", "is_decoder", "output_router_logits", "router_aux_loss_coef", "initial_context_length",
    "experts_per_token",
)  # fmt: skip

DEFAULTS = {key: value for key, value in llama.DEFAULTS.items() if key != "mlp_bias"} | dict(
    vocab_size=201088, hidden_size=2880, intermediate_size=2880, num_hidden_layers=36, num_attention_heads=64,
    num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, attention_bias=True, sliding_window=128,
    layer_types=None, sliding_window_pattern=2, num_local_experts=128, num_experts_per_tok=4, swiglu_limit=7.0,
)  # fmt: skip
ROPE = dict(
    rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=4096
)
ALIASES = {"num_experts": "num_local_experts"}

# Llama's names of tensors.
PREFIX, UNPREFIXED, HEADS, SKIPPED = llama.PREFIX, llama.UNPREFIXED, llama.HEADS, llama.SKIPPED
plain = llama.plain


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)
    fields.fixed("sliding_window_pattern", 2, "windows in every other layer, unless layer_types says which")
    known = llama.sizes(fields, DEFAULTS)
    mixture = Experts(
        n_experts=fields.count("num_local_experts", DEFAULTS["num_local_experts"]),
        per_token=fields.count("num_experts_per_tok", DEFAULTS["num_experts_per_tok"]),
        d_expert=known["d_ff"],
        router_bias=True,
        clamp=fields.number("swiglu_limit", DEFAULTS["swiglu_limit"]),
    )
    return known | dict(ffn_bias=True, attention_sinks=True, experts=mixture)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    if not fields.has("rope_scaling"):
        fields.fill("rope_parameters", ROPE)
    fields.fixed("swiglu_alpha", CLAMPED_SLOPE, "the slope of gpt-oss's gates")
    packed = fields.inner("quantization_config")
    if packed is not None:
        packed.choice("quant_method", "", {"mxfp4": "mxfp4"})
        packed.entries("modules_to_not_convert", None)
        packed.finish()
    return llama.decoder(fields, sizes(fields), INERT, norm_eps=1e-5, theta=150_000.0)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what gpt-oss cannot express is not in them."""
    if config.experts is None:
        raise ValueError("experts=None, and this family has experts in every layer")
    return llama.keys(config) | {
        "intermediate_size": config.experts.d_expert,
        "attention_bias": config.qkv_bias,
        "sliding_window": config.sliding_window,
        "layer_types": layer_types(config),
        "num_local_experts": config.experts.n_experts,
        "num_experts_per_tok": config.experts.per_token,
        "swiglu_limit": 7.0 if config.experts.clamp is None else config.experts.clamp,
    }


def places(config: ModelConfig) -> dict[str, Place | Packed]:
    """Where each canonical weight lies: as in Llama, but for the sinks and the experts."""
    result: dict[str, Place | Packed] = dict(llama.places(config))
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        result[f"{ours}.self_attention.sinks"] = Place(f"{theirs}.self_attn.sinks")
        ours, theirs, width = f"{ours}.feed_forward", f"{theirs}.mlp", config.experts.d_expert
        for part in ("gate", "up", "down"):
            del result[f"{ours}.{part}.weight"]
            result.pop(f"{ours}.{part}.bias", None)  # without biases it is another family's model, which is then said
        result |= linear(f"{ours}.router", f"{theirs}.router")
        for part, columns in (("gate", range(0, 2 * width, 2)), ("up", range(1, 2 * width, 2)), ("down", None)):
            name = f"{theirs}.experts.{'down_proj' if columns is None else 'gate_up_proj'}"
            wide = None if columns is None else 2 * width
            result[f"{ours}.experts.{part}.weight"] = Packed(Place(name, columns=columns, width=wide))
            result[f"{ours}.experts.{part}.bias"] = Place(f"{name}_bias", columns=columns, width=wide)
    return result
