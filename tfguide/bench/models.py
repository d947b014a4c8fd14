"""What is timed: two Llama-shaped models of random weights, written to a folder that every contestant loads."""

from __future__ import annotations

import os

from tfguide.checkpoints import read_checkpoint, write_checkpoint
from tfguide.config import ModelConfig
from tfguide.dtypes import BITS
from tfguide.weights import init_weights, weight_shapes

# The eps is the one that KerasHub's Llama assumes: its converter passes over the folder's rms_norm_eps.
SMALL = ModelConfig(
    kind="decoder", d_model=768, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=2048, vocab_size=32000,
    max_positions=2048, norm="rms", norm_eps=1e-6, positions="rotary", activation="swiglu", qkv_bias=False,
    output_bias=False, ffn_bias=False, tied_head=False,
)  # fmt: skip
MIDDLE = SMALL.replace(d_model=2048, n_layers=22, n_heads=32, n_kv_heads=4, d_ff=5632)
MODELS = {"S": SMALL, "M": MIDDLE}  # 125M and 1.1B parameters


def find_model(name: str) -> tuple[ModelConfig, str | None]:
    """The configuration of one of MODELS, or of a checkpoint folder, and that folder or None.

    Raises as `read_checkpoint` for what is neither.
    """
    return (MODELS[name], None) if name in MODELS else (read_checkpoint(name)[0], name)


def write_model(folder: str | os.PathLike, config: ModelConfig, seed: int = 0) -> None:
    """Write a model with random weights, as Hugging Face would."""
    write_checkpoint(folder, config, init_weights(config, seed))


def bytes_read(config: ModelConfig, dtype: str, context: int) -> int:
    """The bytes that a decoding step must read: every matrix once, and the cache of `context` positions.

    Scales count: 4 bytes for each output of 8-bit weights, 2 for each 32 of 4-bit ones. The embedding gives one row,
    norms are small: neither counts. The cache is of the type of the activations, float32 for quantised weights.
    """
    matrices = [shape for name, shape in weight_shapes(config).items() if len(shape) == 2 and name[:9] != "embedding"]
    parameters = sum(a * b for a, b in matrices)
    scales = {"int8": sum(4 * b for _, b in matrices), "int4": parameters // 32 * 2}.get(dtype, 0)
    cache_bytes = 4 if BITS[dtype] in (32, 8, 4) else 2
    cache = 2 * config.n_layers * config.n_kv_heads * config.d_head * context * cache_bytes
    return parameters * BITS[dtype] // 8 + scales + cache
