"""The architecture "qwen2" of GGUF files: Llama with biases of queries, keys and values, as llama.cpp computes it.

It computes no window, whatever a file says.
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

ARCHITECTURE = "qwen2"
READS = "Qwen2 and Qwen2.5"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    return llama.decoder(fields, file, qkv_bias=True, output_bias=False, ffn_bias=False)


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    if config.n_heads * config.d_head != config.d_model:
        sizes = f"n_heads={config.n_heads} and d_head={config.d_head}"
        raise ValueError(f"llama.cpp wants heads of d_model={config.d_model} features together, got {sizes}")
    return llama.keys(config, ARCHITECTURE)


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return llama.places(config, pairs=False)
