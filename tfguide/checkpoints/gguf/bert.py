"""The architecture "bert" of GGUF files: an encoder with norms after the sublayers.

The activation is GELU itself, as in BERT; llama.cpp computes its tanh form. The pooler is left out by converters.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.keys import required, required_number, special_tokens, vocabulary
from tfguide.checkpoints.gguf.layout import Place, linear
from tfguide.config import ModelConfig

ARCHITECTURE = "bert"
READS = "BERT's encoder, without the heads of other tasks"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()
INERT = frozenset({"bert.pooling_type"})  # how a program makes one vector of the hidden states
_TYPES = "tokenizer.ggml.token_type_count"


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell how many token types there are."""
    fields.fixed("bert.attention.causal", False, "an encoder that sees both sides", null=False)
    n_heads = required(fields, "bert.attention.head_count")
    fields.fixed("bert.attention.head_count_kv", n_heads, "keys and values for each head")
    vocab_size = vocabulary(fields, file)
    config = ModelConfig(
        kind="encoder",
        d_model=required(fields, "bert.embedding_length"),
        n_layers=required(fields, "bert.block_count"),
        n_heads=n_heads,
        d_ff=required(fields, "bert.feed_forward_length"),
        vocab_size=vocab_size,
        max_positions=required(fields, "bert.context_length"),
        n_token_types=_token_types(fields, file),
        norm_placement="post",
        norm_eps=required_number(fields, "bert.attention.layer_norm_epsilon"),
        embedding_norm=True,
        positions="learned",
        activation="gelu",
        **special_tokens(file, vocab_size),
    )
    fields.finish(INERT)
    return config


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    return {
        "bert.context_length": config.max_positions or 512,
        "bert.embedding_length": config.d_model,
        "bert.block_count": config.n_layers,
        "bert.feed_forward_length": config.d_ff,
        "bert.vocab_size": config.vocab_size,
        "bert.attention.head_count": config.n_heads,
        "bert.attention.layer_norm_epsilon": config.norm_eps,
        "bert.attention.causal": False,
        _TYPES: config.n_token_types or 1,  # llama.cpp wants one, and does without the table
    }


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _token_types(fields, file):
    tensor = file.tensors.get("token_types.weight")
    rows = 0 if tensor is None else tensor.shape[0]
    said = file.metadata.get(_TYPES, rows)
    if said != (rows or 1) and said != rows:
        raise ValueError(f"{fields.source}: {_TYPES} is {said!r}, but the tensor 'token_types.weight' has {rows} rows")
    return rows


def _places(config):
    yield "embedding.token.weight", Place("token_embd.weight")
    yield "embedding.position.weight", Place("position_embd.weight")
    if config.n_token_types:
        yield "embedding.token_type.weight", Place("token_types.weight")
    yield from linear("embedding.norm", "token_embd_norm")
    for layer in range(config.n_layers):
        ours, theirs = f"encoder.layers.{layer}", f"blk.{layer}"
        for part in ("query", "key", "value"):
            yield from linear(f"{ours}.self_attention.{part}", f"{theirs}.attn_{part[0]}")
        yield from linear(f"{ours}.self_attention.output", f"{theirs}.attn_output")
        yield from linear(f"{ours}.self_attention_norm", f"{theirs}.attn_output_norm")
        for part in ("up", "down"):
            yield from linear(f"{ours}.feed_forward.{part}", f"{theirs}.ffn_{part}")
        yield from linear(f"{ours}.feed_forward_norm", f"{theirs}.layer_output_norm")
