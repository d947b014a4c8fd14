"""The architecture "phi3" of GGUF files: Llama's layers with fused matrices, as llama.cpp computes them.

A window is read and written, and llama.cpp does not apply it.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import llama
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.layout import Place, fused
from tfguide.config import ModelConfig

ARCHITECTURE = "phi3"
READS = "Phi-3, without experts"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    return llama.decoder(
        fields,
        file,
        query="blk.0.attn_qkv.weight",
        sliding_window=fields.count("phi3.attention.sliding_window", 0, least=0) or None,
        qkv_bias=False,
        output_bias=False,
        ffn_bias=False,
    )


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    if config.n_heads * config.d_head != config.d_model:
        sizes = f"n_heads={config.n_heads} and d_head={config.d_head}"
        raise ValueError(f"llama.cpp wants heads of d_model={config.d_model} features together, got {sizes}")
    more = {} if config.sliding_window is None else {"phi3.attention.sliding_window": config.sliding_window}
    return llama.keys(config, ARCHITECTURE) | more


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies: as in Llama, but for the matrices that share a tensor."""
    places = llama.places(config, pairs=False)
    heads = {"query": config.n_heads, "key": config.n_kv_heads, "value": config.n_kv_heads}
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"blk.{layer}"
        attention = {f"{ours}.self_attention.{part}": n * config.d_head for part, n in heads.items()}
        places |= fused(attention, f"{theirs}.attn_qkv", bias=False)
        network = {f"{ours}.feed_forward.{part}": config.d_ff for part in ("gate", "up")}
        places |= fused(network, f"{theirs}.ffn_up", bias=False)
    return places
