"""The architecture "llama" of GGUF files: Llama, Mistral, Mixtral and what has their layers, as llama.cpp has them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import rope
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.keys import required, required_number, special_tokens, vocabulary
from tfguide.checkpoints.gguf.layout import Place, linear
from tfguide.checkpoints.gguf.scaling import read_scaling, scaling_keys
from tfguide.config import ModelConfig
from tfguide.parts import Experts
from tfguide.scalings import RopeScaling

ARCHITECTURE = "llama"
READS = "Llama, Mistral and Mixtral"
SKIPPED = re.compile(r"blk\.\d+\.attn_rot_embd(\.weight)?")  # computed from the base, in old files
BESIDE = frozenset({rope.TENSOR})

# No effect without experts, or without YaRN; what converters note down for other programs.
INERT = (
    "expert_used_count", "tensor_data_layout", "rope.scaling.finetuned",
    "expert_group_count", "expert_group_used_count",
)  # fmt: skip


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether there are biases, a head, and scaled frequencies."""
    return decoder(
        fields,
        file,
        width="feed_forward_length",
        sliding_window=fields.count("llama.attention.sliding_window", 0, least=0) or None,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        ffn_bias="blk.0.ffn_up.bias" in file.tensors,
    )


def decoder(
    fields: Fields, file: GgufFile, query: str = "blk.0.attn_q.weight", width: str | None = None, **more: Any
) -> ModelConfig:
    """The configuration in the metadata of an architecture with Llama's keys.

    query: the tensor whose first rows are the first layer's queries. width: the key of the hidden features of an
    expert; None: the architecture has no experts. more: the fields that these keys do not say, or that the architecture
    reads in a way of its own.
    """
    name = file.architecture
    d_ff = required(fields, f"{name}.feed_forward_length")
    experts = _experts(fields, name, width, d_ff)
    fields.fixed(f"{name}.attention.causal", True, "a decoder that sees what came before")
    d_model = required(fields, f"{name}.embedding_length")
    n_heads = more.get("n_heads") or required(fields, f"{name}.attention.head_count")
    d_head = more.get("d_head") or _head_size(fields, file, d_model, n_heads, query)
    fields.fixed(f"{name}.attention.value_length", d_head, "values of the size of keys")
    if "d_rotary" not in more:
        fields.fixed(f"{name}.rope.dimension_count", d_head, "all features of a head are rotated")
    theta = fields.number(f"{name}.rope.freq_base", 10_000.0)
    if "rope_scaling" not in more:
        more["rope_scaling"] = read_scaling(fields, file, d_head, theta)
    vocab_size = vocabulary(fields, file)
    known = dict(
        kind="decoder",
        d_model=d_model,
        n_layers=more.get("n_layers") or required(fields, f"{name}.block_count"),
        n_heads=n_heads,
        n_kv_heads=fields.count(f"{name}.attention.head_count_kv", n_heads),
        d_head=d_head,
        d_ff=d_ff,
        vocab_size=vocab_size,
        max_positions=required(fields, f"{name}.context_length"),
        norm="rms",
        norm_eps=required_number(fields, f"{name}.attention.layer_norm_rms_epsilon"),
        positions="rotary",
        rope_theta=theta,
        activation="swiglu",
        experts=experts,
        tied_head="output.weight" not in file.tensors,
    )
    config = ModelConfig(**known | more, **special_tokens(file, vocab_size))
    fields.finish([f"{name}.{key}" for key in INERT])
    return config


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    more = {} if config.sliding_window is None else {"llama.attention.sliding_window": config.sliding_window}
    if config.experts is not None:
        more |= {"llama.feed_forward_length": config.experts.d_expert} | expert_keys(config, ARCHITECTURE)
    return keys(config, ARCHITECTURE) | more


def expert_keys(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The keys that say how many experts there are, and how many a token is sent to."""
    experts = config.experts
    return {
        f"{architecture}.expert_count": experts.n_experts,
        f"{architecture}.expert_used_count": experts.per_token,
    }


def keys(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The keys of a configuration that Llama shares with other architectures."""
    keys = {
        "context_length": config.max_positions or 1 << 20,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.d_ff,
        "vocab_size": config.vocab_size,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.n_kv_heads,
        "attention.key_length": config.d_head,
        "attention.value_length": config.d_head,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.d_rotary,
        "rope.freq_base": config.rope_theta,
        **scaling_keys(config.rope_scaling),
    }
    return {f"{architecture}.{key}": value for key, value in keys.items()}


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights."""
    if not isinstance(config.rope_scaling, RopeScaling):
        return {}
    divisors = rope.divisors(config.d_head, config.rope_theta, config.rope_scaling)
    return {rope.TENSOR: divisors.astype(np.float32)}


def places(config: ModelConfig, pairs: bool = True) -> dict[str, Place]:
    """Where each canonical weight lies. pairs: features that are rotated as a pair lie side by side, see `Place`."""
    return dict(_places(config, pairs))


def _head_size(fields, file, d_model, n_heads, query):
    """d, from the metadata; checked here since numbers for each of its pairs are computed."""
    d_head = fields.count(f"{file.architecture}.attention.key_length", max(1, d_model // n_heads))
    if query not in file.tensors:
        raise ValueError(f"missing tensor {query!r}")
    rows, wanted = file.tensors[query].shape[0], n_heads * d_head
    if rows < wanted if "qkv" in query else rows != wanted:
        raise ValueError(
            f"tensor {query!r} must have {wanted} rows for {n_heads} heads of {d_head} features, got {rows}"
        )
    return d_head


def _experts(fields, name, width, d_ff) -> Experts | None:
    """The experts in the metadata; None where there are none. The router is Mixtral's: a normalised softmax."""
    if width is None:
        fields.fixed(
            f"{name}.expert_count", 0, "one network in each layer: this architecture has no mixture of experts"
        )
    n_experts = fields.count(f"{name}.expert_count", 0, least=0)
    if n_experts == 0:
        return None
    for group in ("expert_group_count", "expert_group_used_count"):
        fields.fixed(f"{name}.{group}", 0, "a choice among all experts")
    per_token = required(fields, f"{name}.expert_used_count")
    d_expert = d_ff if width == "feed_forward_length" else required(fields, f"{name}.{width}")
    return Experts(n_experts=n_experts, per_token=per_token, d_expert=d_expert)


def _places(config, pairs):
    yield "embedding.token.weight", Place("token_embd.weight")
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"blk.{layer}"
        yield f"{ours}.self_attention_norm.weight", Place(f"{theirs}.attn_norm.weight")
        for part, n_heads in (("query", config.n_heads), ("key", config.n_kv_heads), ("value", 0)):
            yield from linear(
                f"{ours}.self_attention.{part}", f"{theirs}.attn_{part[0]}", config.qkv_bias, heads=n_heads * pairs
            )
        for part in ("query", "key") if config.qk_norm else ():
            yield f"{ours}.self_attention.{part}_norm.weight", Place(f"{theirs}.attn_{part[0]}_norm.weight")
        yield from linear(f"{ours}.self_attention.output", f"{theirs}.attn_output", config.output_bias)
        yield f"{ours}.feed_forward_norm.weight", Place(f"{theirs}.ffn_norm.weight")
        own, suffix = f"{ours}.feed_forward", ""
        if config.has_experts(layer):
            yield from linear(f"{own}.router", f"{theirs}.ffn_gate_inp", config.experts.router_bias)
            own, suffix = f"{own}.experts", "_exps"
        for part in ("gate", "up", "down"):
            yield from linear(f"{own}.{part}", f"{theirs}.ffn_{part}{suffix}", config.ffn_bias)
    yield "decoder.final_norm.weight", Place("output_norm.weight")
    if not config.tied_head:
        yield "head.weight", Place("output.weight")
