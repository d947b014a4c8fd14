"""The architecture "qwen3moe" of GGUF files: Qwen3 with experts in every layer, as llama.cpp computes it.

Its weights of the chosen experts are divided by their sum, and it computes no window, whatever a file says.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import llama
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.layout import Place
from tfguide.config import ModelConfig

ARCHITECTURE = "qwen3moe"
READS = "Qwen3's mixtures of experts, without biases"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()
_WIDTH = "expert_feed_forward_length"


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    return llama.decoder(fields, file, width=_WIDTH, qkv_bias=False, output_bias=False, ffn_bias=False, qk_norm=True)


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    if config.experts is None:
        raise ValueError("experts=None, and this architecture has experts in every layer")
    experts = llama.expert_keys(config, ARCHITECTURE) | {f"{ARCHITECTURE}.{_WIDTH}": config.experts.d_expert}
    return llama.keys(config, ARCHITECTURE) | experts


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return llama.places(config, pairs=False)
