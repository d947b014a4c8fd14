"""Llama: a decoder with rotary positions and gates, as `transformers.LlamaForCausalLM` computes it (version 5.23)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import GATES
from tfguide.checkpoints.layout import Place, linear, norm
from tfguide.checkpoints.rotary import longest, rope, rope_keys, trained_positions
from tfguide.checkpoints.windows import windows
from tfguide.config import ModelConfig

MODEL_TYPE = "llama"
ARCHITECTURE = "LlamaForCausalLM"
PREFIX, UNPREFIXED = "model.", ("lm_head.weight",)
READS = "LlamaModel and LlamaForCausalLM"
HEADS = ("score", "classifier", "qa_outputs")
SKIPPED = re.compile(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq")  # computed from rope_theta

# pretraining_tp only cuts the same products into pieces; max_sequence_length is another name for a training length.
INERT = ("attention_dropout", "pretraining_tp", "max_sequence_length", "is_decoder")

DEFAULTS = dict(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=None, head_dim=None, max_position_embeddings=2048, tie_word_embeddings=False,
    attention_bias=False, mlp_bias=False,
)  # fmt: skip
ALIASES: dict[str, str] = {}


def plain(name: str) -> str:
    """A tensor's name in LlamaModel, from its name in a model with a head."""
    return name.removeprefix("model.")


def sizes(fields: Fields, defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json.

    defaults: those of a family with the keys of Llama; a bias that is not among them is a key that its class does not
    read, and is left out.
    """

    def count(key):
        return fields.count(key, defaults[key])

    def bias(key):
        return fields.flag(key, defaults[key]) if key in defaults else False

    attention_bias = bias("attention_bias")
    n_layers = count("num_hidden_layers")
    return dict(
        kind="decoder",
        d_model=count("hidden_size"),
        n_layers=n_layers,
        n_heads=count("num_attention_heads"),
        n_kv_heads=fields.count("num_key_value_heads", defaults["num_key_value_heads"], null=True),
        d_head=fields.count("head_dim", defaults["head_dim"], null=True),
        d_ff=count("intermediate_size"),
        vocab_size=count("vocab_size"),
        max_positions=count("max_position_embeddings"),
        norm="rms",
        positions="rotary",
        activation="swiglu",
        qkv_bias=attention_bias,
        output_bias=attention_bias,
        ffn_bias=bias("mlp_bias"),
        tied_head=fields.flag("tie_word_embeddings", defaults["tie_word_embeddings"]),
        **windows(fields, defaults, n_layers),
    )


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    return decoder(fields, sizes(fields), INERT, bos_token_id=1, eos_token_id=2)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Llama cannot express is not in them."""
    if config.d_model % config.n_heads:
        raise ValueError(f"transformers wants n_heads={config.n_heads} to divide d_model={config.d_model}")
    return keys(config) | {"attention_bias": config.qkv_bias, "mlp_bias": config.ffn_bias}


def decoder(
    fields: Fields,
    known: dict[str, Any],
    inert: Collection[str],
    norm_eps: float = 1e-6,
    theta: float = 10_000.0,
    **tokens: int,
) -> ModelConfig:
    """The configuration in a config.json of a family with Llama's keys.

    known: the fields that `sizes` reads, and those of the rotation where the family reads it in a way of its own.
    inert: the keys without effect. norm_eps, theta, tokens: its defaults. These classes have no residual
    dropout; a rate that we wrote is read.
    """
    fields.fixed("is_encoder_decoder", False, "a decoder alone")
    fields.fixed("is_causal", True, "a decoder that sees what came before", null=False)
    if "rope_theta" not in known:
        theta, scaling = rope(fields, known["max_positions"], theta)
        most = longest(scaling, known["max_positions"])
        known = known | dict(rope_theta=theta, rope_scaling=scaling, max_positions=most)
    known = known | dict(
        norm_eps=fields.number("rms_norm_eps", norm_eps),
        activation=fields.choice("hidden_act", "silu", GATES),
        dropout=fields.dropout("resid_pdrop", 0.0),
    )
    config = ModelConfig(**known, **fields.token_ids(known["vocab_size"], **tokens))
    fields.finish(inert)
    return config


def keys(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json that Llama shares with other families."""
    names = {"geglu": "gelu", "geglu_tanh": "gelu_pytorch_tanh"}
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "intermediate_size": config.d_ff,
        "hidden_act": names.get(config.activation, "silu"),
        "max_position_embeddings": trained_positions(config) or 2048,
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": rope_keys(config),
        "tie_word_embeddings": config.tied_head,
        **({"resid_pdrop": config.dropout} if config.dropout else {}),
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _places(config):
    yield "embedding.token.weight", Place("embed_tokens.weight", copies=("lm_head.weight",) if config.tied_head else ())
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.input_layernorm", bias=False)
        for part, name in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            bias = config.output_bias if part == "output" else config.qkv_bias
            yield from linear(f"{ours}.self_attention.{part}", f"{theirs}.self_attn.{name}_proj", bias)
        for part, name in (("query", "q"), ("key", "k")) if config.qk_norm else ():
            yield from norm(f"{ours}.self_attention.{part}_norm", f"{theirs}.self_attn.{name}_norm", bias=False)
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.post_attention_layernorm", bias=False)
        for part in ("gate", "up", "down"):
            yield from linear(f"{ours}.feed_forward.{part}", f"{theirs}.mlp.{part}_proj", config.ffn_bias)
    yield from norm("decoder.final_norm", "norm", bias=False)
    if not config.tied_head:
        yield "head.weight", Place("lm_head.weight", transposed=True)
