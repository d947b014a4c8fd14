"""The architecture "qwen3" of GGUF files: Llama with norms of queries and keys, as llama.cpp computes it.

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

ARCHITECTURE = "qwen3"
READS = "Qwen3, without biases and experts"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied."""
    return llama.decoder(fields, file, qkv_bias=False, output_bias=False, ffn_bias=False, qk_norm=True)


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    return llama.keys(config, ARCHITECTURE)


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return llama.places(config, pairs=False)
