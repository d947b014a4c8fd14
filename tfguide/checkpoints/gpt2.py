"""GPT-2: a decoder with learned positions, as `transformers.GPT2LMHeadModel` computes it (version 5.23)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import ACTIVATIONS
from tfguide.checkpoints.layout import Place, fused, linear, norm
from tfguide.config import ModelConfig

MODEL_TYPE = "gpt2"
ARCHITECTURE = "GPT2LMHeadModel"
PREFIX, UNPREFIXED = "transformer.", ("lm_head.weight",)
READS = "GPT2Model and GPT2LMHeadModel"
HEADS = ("score", "classifier", "qa_outputs", "multiple_choice_head")
SKIPPED = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # the causal mask, which old versions stored

# What the class reads for training, or for its heads.
_INERT = """
    attn_pdrop embd_pdrop n_ctx predict_special_tokens reorder_and_upcast_attn classifier_dropout hidden_dropout
    summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout is_decoder
"""
INERT = frozenset(_INERT.split())

DEFAULTS = dict(
    vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12, n_inner=None, tie_word_embeddings=True
)
ALIASES = dict(
    hidden_size="n_embd",
    max_position_embeddings="n_positions",
    num_attention_heads="n_head",
    num_hidden_layers="n_layer",
)


def plain(name: str) -> str:
    """A tensor's name in GPT2Model, from its name in a model with a head."""
    return name.removeprefix("transformer.")


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)

    def count(key):
        return fields.count(key, DEFAULTS[key])

    d_model = count("n_embd")
    return dict(
        kind="decoder",
        d_model=d_model,
        n_layers=count("n_layer"),
        n_heads=count("n_head"),
        d_ff=count("n_inner") or 4 * d_model,
        vocab_size=count("vocab_size"),
        max_positions=count("n_positions"),
        positions="learned",
        tied_head=fields.flag("tie_word_embeddings", DEFAULTS["tie_word_embeddings"]),
    )


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    fields.fixed("is_encoder_decoder", False, "a decoder alone")
    fields.fixed("is_causal", True, "a decoder that sees what came before", null=False)
    fields.fixed("scale_attn_by_inverse_layer_idx", False, "one scale of the scores for all layers")
    known = sizes(fields)
    config = ModelConfig(
        **known,
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choice("activation_function", "gelu_new", ACTIVATIONS),
        attention_scale=None if fields.flag("scale_attn_weights", True) else 1.0,
        dropout=fields.dropout("resid_pdrop", 0.1),
        **fields.token_ids(known["vocab_size"], bos_token_id=50256, eos_token_id=50256),
    )
    fields.finish(INERT)
    return config


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what GPT-2 cannot express is not in them."""
    return {
        "vocab_size": config.vocab_size,
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_ff,
        "n_positions": config.max_positions or 1024,
        "activation_function": {"gelu": "gelu", "relu": "relu"}.get(config.activation, "gelu_new"),
        "scale_attn_weights": config.d_head == 1 or not math.isclose(config.attention_scale, 1.0),
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": config.tied_head,
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _places(config):
    yield "embedding.token.weight", Place("wte.weight", copies=("lm_head.weight",) if config.tied_head else ())
    yield "embedding.position.weight", Place("wpe.weight")
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"h.{layer}"
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.ln_1")
        # GPT-2's Conv1D is a linear map that is stored (in, out), as canonical weights are.
        joined = {f"{ours}.self_attention.{name}": config.d_model for name in ("query", "key", "value")}
        yield from fused(joined, f"{theirs}.attn.c_attn", transposed=False)
        yield from linear(f"{ours}.self_attention.output", f"{theirs}.attn.c_proj", transposed=False)
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.ln_2")
        yield from linear(f"{ours}.feed_forward.up", f"{theirs}.mlp.c_fc", transposed=False)
        yield from linear(f"{ours}.feed_forward.down", f"{theirs}.mlp.c_proj", transposed=False)
    yield from norm("decoder.final_norm", "ln_f")
    if not config.tied_head:
        yield "head.weight", Place("lm_head.weight", transposed=True)
