"""The architecture "phi3" of GGUF files: Llama's layers with fused matrices, as llama.cpp computes them.

A window is read and written, and llama.cpp does not apply it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import llama
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.layout import Place, fused
from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor
from tfguide.scalings import LongRopeScaling

ARCHITECTURE = "phi3"
READS = "Phi-3, without experts"
SKIPPED = re.compile("(?!)")  # nothing
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
BESIDE = frozenset({_LONG, _SHORT})


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied, and the factors of LongRoPE."""
    more = dict(qkv_bias=False, output_bias=False, ffn_bias=False)
    if BESIDE & set(file.tensors):
        more["rope_scaling"] = _long_scaling(fields, file)
    return llama.decoder(
        fields,
        file,
        query="blk.0.attn_qkv.weight",
        sliding_window=fields.count("phi3.attention.sliding_window", 0, least=0) or None,
        d_rotary=fields.count("phi3.rope.dimension_count", None),
        **more,
    )


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    if config.n_heads * config.d_head != config.d_model:
        sizes = f"n_heads={config.n_heads} and d_head={config.d_head}"
        raise ValueError(f"llama.cpp wants heads of d_model={config.d_model} features together, got {sizes}")
    keys, scaling = llama.keys(config, ARCHITECTURE), config.rope_scaling
    if config.sliding_window is not None:
        keys["phi3.attention.sliding_window"] = config.sliding_window
    if isinstance(scaling, LongRopeScaling):
        keys["phi3.rope.scaling.original_context_length"] = scaling.original_max_positions
        keys["phi3.rope.scaling.attn_factor"] = attention_factor(scaling)
    return keys


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: the factors of LongRoPE."""
    scaling = config.rope_scaling
    if not isinstance(scaling, LongRopeScaling):
        return {}
    return {_LONG: np.float32(scaling.long_factors), _SHORT: np.float32(scaling.short_factors)}


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


def _long_scaling(fields, file):
    """LongRoPE's factors; each float32 becomes the shortest decimal number that rounds to it."""
    for name in sorted(BESIDE):
        if name not in file.tensors:
            raise ValueError(f"missing tensor {name!r}: expected both of {', '.join(sorted(BESIDE))}, or none")
    short, long = (tuple(float(str(x)) for x in file.tensors[name].dequantised()) for name in (_SHORT, _LONG))
    whole = fields.look("phi3.context_length", None)
    trained = fields.count("phi3.rope.scaling.original_context_length", whole)
    said = fields.number("phi3.rope.scaling.attn_factor", 1.0)
    scaling = LongRopeScaling(
        short_factors=short, long_factors=long, original_max_positions=trained, factor=whole / trained
    )
    if math.isclose(said, attention_factor(scaling), rel_tol=1e-6):
        return scaling
    return dataclasses.replace(scaling, attention_factor=said)
