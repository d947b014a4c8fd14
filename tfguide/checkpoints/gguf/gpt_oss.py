"""The architecture "gpt-oss" of GGUF files: sinks, windows by layer, and experts with clamped gates, as in llama.cpp.

Its YaRN does not round its limits to whole pairs, as in the model; llama.cpp rounds them.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import llama
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.keys import required
from tfguide.checkpoints.gguf.layout import Place
from tfguide.checkpoints.gguf.windows import window_keys, windows
from tfguide.config import ModelConfig
from tfguide.scalings import YarnScaling

ARCHITECTURE = "gpt-oss"
READS = "gpt-oss"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()
_WIDTH = "expert_feed_forward_length"
_CLAMP = 7.0  # which llama.cpp has in its code


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether queries, keys and values have biases."""
    n_layers = required(fields, f"{ARCHITECTURE}.block_count")
    seen = windows(fields, ARCHITECTURE, n_layers, period=2)
    if (seen["sliding_window"] or 0) >= fields.look(f"{ARCHITECTURE}.context_length", None):
        seen = {}  # the window of a model without windows
    local = f"{ARCHITECTURE}.rope.freq_base_swa"
    fields.fixed(local, fields.look(f"{ARCHITECTURE}.rope.freq_base", 10_000.0), "one base for all layers")
    config = llama.decoder(
        fields,
        file,
        width=_WIDTH,
        n_layers=n_layers,
        **seen,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias=True,
        ffn_bias=True,
        attention_sinks=True,
        tied_head=False,
    )
    if config.experts is None:
        raise ValueError(f"{ARCHITECTURE}.expert_count must be at least 1, got 0")
    experts = dataclasses.replace(config.experts, router_bias=True, clamp=_CLAMP)
    scaling = config.rope_scaling
    if isinstance(scaling, YarnScaling):
        scaling = dataclasses.replace(scaling, truncate=False)
    return config.replace(experts=experts, rope_scaling=scaling)


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    if config.experts is None:
        raise ValueError("experts=None, and this architecture has experts in every layer")
    if config.tied_head:
        raise ValueError("tied_head=True, and llama.cpp wants a head of its own in this architecture")
    keys = llama.keys(config, ARCHITECTURE)
    keys[f"{ARCHITECTURE}.attention.sliding_window"] = keys[f"{ARCHITECTURE}.context_length"]  # llama.cpp wants one
    keys[f"{ARCHITECTURE}.{_WIDTH}"] = config.experts.d_expert
    return keys | llama.expert_keys(config, ARCHITECTURE) | window_keys(config, ARCHITECTURE)


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies: as in Llama, but for the sinks and the name of the second norm."""
    places = llama.places(config, pairs=False)
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"blk.{layer}"
        places[f"{ours}.self_attention.sinks"] = Place(f"{theirs}.attn_sinks.weight")
        places[f"{ours}.feed_forward_norm.weight"] = Place(f"{theirs}.post_attention_norm.weight")
    return places
