"""The architecture "gemma3" of GGUF files: windows by layer, and norms on both sides, as llama.cpp computes them.

Converters add the 1 to the weights of norms, which scale by 1 + w in Gemma's own files.
"""

from __future__ import annotations

import math
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

ARCHITECTURE = "gemma3"
READS = "Gemma 3 for text"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()
_SCALED_BY_WIDTH = 62  # layers of the 27B model, whose scores are divided by sqrt(D / H)


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    d_model = fields.look("gemma3.embedding_length", None)
    local = fields.number("gemma3.rope.freq_base_swa", 10_000.0)
    n_layers = required(fields, "gemma3.block_count")
    cap = fields.number("gemma3.final_logit_softcapping", 0.0)
    more = dict(
        qkv_bias=False, output_bias=False, ffn_bias=False, qk_norm=True, norm_placement="both",
        activation="geglu_tanh", embedding_scale=math.sqrt(d_model), logit_softcap=cap or None,
    )  # fmt: skip
    more |= windows(fields, ARCHITECTURE, n_layers, period=6)
    if more["sliding_window"] is not None:
        more["local_rope_theta"] = local
    config = llama.decoder(fields, file, n_layers=n_layers, **more)
    return config.replace(attention_scale=_scale(config))


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    keys = llama.keys(config, ARCHITECTURE) | window_keys(config, ARCHITECTURE)
    if config.sliding_window is not None:
        keys["gemma3.rope.freq_base_swa"] = config.rope(slides=True)[0]
    if config.logit_softcap is not None:
        keys["gemma3.final_logit_softcapping"] = config.logit_softcap
    return keys


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies: as in Llama, and two more norms."""
    places = llama.places(config, pairs=False)
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"blk.{layer}"
        places[f"{ours}.self_attention_post_norm.weight"] = Place(f"{theirs}.post_attention_norm.weight")
        places[f"{ours}.feed_forward_post_norm.weight"] = Place(f"{theirs}.post_ffw_norm.weight")
    return places


def _scale(config):
    width = config.d_model // config.n_heads if config.n_layers == _SCALED_BY_WIDTH else config.d_head
    return 1.0 / math.sqrt(width)
