"""The architecture "gpt2" of GGUF files: a decoder with learned positions, as llama.cpp computes it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.keys import required, required_number, special_tokens, vocabulary
from tfguide.checkpoints.gguf.layout import Place, fused, linear
from tfguide.config import ModelConfig

ARCHITECTURE = "gpt2"
READS = "GPT-2 with its head"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()
INERT = frozenset({"gpt2.tensor_data_layout"})


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    fields.fixed("gpt2.attention.causal", True, "a decoder that sees what came before")
    n_heads = required(fields, "gpt2.attention.head_count")
    fields.fixed("gpt2.attention.head_count_kv", n_heads, "keys and values for each head")
    vocab_size = vocabulary(fields, file)
    config = ModelConfig(
        kind="decoder",
        d_model=required(fields, "gpt2.embedding_length"),
        n_layers=required(fields, "gpt2.block_count"),
        n_heads=n_heads,
        d_ff=required(fields, "gpt2.feed_forward_length"),
        vocab_size=vocab_size,
        max_positions=required(fields, "gpt2.context_length"),
        norm_eps=required_number(fields, "gpt2.attention.layer_norm_epsilon"),
        positions="learned",
        activation="gelu_tanh",
        tied_head="output.weight" not in file.tensors,
        **special_tokens(file, vocab_size),
    )
    fields.finish(INERT)
    return config


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    return {
        "gpt2.context_length": config.max_positions or 1024,
        "gpt2.embedding_length": config.d_model,
        "gpt2.block_count": config.n_layers,
        "gpt2.feed_forward_length": config.d_ff,
        "gpt2.vocab_size": config.vocab_size,
        "gpt2.attention.head_count": config.n_heads,
        "gpt2.attention.layer_norm_epsilon": config.norm_eps,
    }


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _places(config):
    yield "embedding.token.weight", Place("token_embd.weight")
    yield "embedding.position.weight", Place("position_embd.weight")
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"blk.{layer}"
        yield from linear(f"{ours}.self_attention_norm", f"{theirs}.attn_norm")
        joined = {f"{ours}.self_attention.{name}": config.d_model for name in ("query", "key", "value")}
        yield from fused(joined, f"{theirs}.attn_qkv")
        yield from linear(f"{ours}.self_attention.output", f"{theirs}.attn_output")
        yield from linear(f"{ours}.feed_forward_norm", f"{theirs}.ffn_norm")
        for part in ("up", "down"):
            yield from linear(f"{ours}.feed_forward.{part}", f"{theirs}.ffn_{part}")
    yield from linear("decoder.final_norm", "output_norm")
    if not config.tied_head:
        yield "head.weight", Place("output.weight")
