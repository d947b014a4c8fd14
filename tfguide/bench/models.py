"""The benchmark's models: of Llama's shape with random weights, written to a folder that every contestant loads."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfguide.checkpoints import is_gguf, open_gguf, read_blocks, read_checkpoint, read_gguf, write_checkpoint
from tfguide.checkpoints.reading import open_checkpoint
from tfguide.compress import Quantization
from tfguide.compress.quantized import quantized_shapes, quantized_weights
from tfguide.config import ModelConfig
from tfguide.cost.memory import cache_dtype, cache_scale_bytes, kv_bytes
from tfguide.dtypes import BITS
from tfguide.initialization import init_weights
from tfguide.parts import Experts
from tfguide.weights import Weight, weight_shapes

# KerasHub's Llama assumes this eps: its converter ignores the folder's rms_norm_eps.
SMALL = ModelConfig(
    kind="decoder", d_model=768, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=2048, vocab_size=32000,
    max_positions=2048, norm="rms", norm_eps=1e-6, positions="rotary", activation="swiglu", qkv_bias=False,
    output_bias=False, ffn_bias=False, tied_head=False,
)  # fmt: skip
MIDDLE = SMALL.replace(d_model=2048, n_layers=22, n_heads=32, n_kv_heads=4, d_ff=5632)
# A token passes through two experts, which together are as wide as the network of SMALL: a step reads as many bytes.
SMALL_MIXTURE = SMALL.replace(d_ff=1024, experts=Experts(n_experts=8, per_token=2, d_expert=1024))
MODELS = {"S": SMALL, "S-MoE": SMALL_MIXTURE, "M": MIDDLE}  # 125M, 295M and 1.1B parameters


def find_model(name: str) -> tuple[ModelConfig, str | None]:
    """The configuration of one of MODELS or of a checkpoint folder, and that folder or None.

    Raises as `read_checkpoint` for any other name.
    """
    return (MODELS[name], None) if name in MODELS else (read_checkpoint(name)[0], name)


def read_model(path: str | os.PathLike) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The configuration and the float32 weights of a GGUF file or a checkpoint folder. Raises as their readers."""
    return read_gguf(path) if is_gguf(path) else read_checkpoint(path)


def read_config(path: str | os.PathLike) -> ModelConfig:
    """The configuration alone: the weights of a folder are not read, those of a GGUF file are not dequantised."""
    config, _ = read_blocks(open_gguf(path)) if is_gguf(path) else open_checkpoint(path)
    return config


def write_model(folder: str | os.PathLike, config: ModelConfig, seed: int = 0) -> None:
    """Write a model with random weights in the Hugging Face layout."""
    write_checkpoint(folder, config, init_weights(config, seed))


@contextmanager
def kept_model(config: ModelConfig, folder: str | None) -> Iterator[str]:
    """A folder with the model: the one that is named, or one with random weights that is removed afterwards."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as parent:
        made = os.path.join(parent, "model")
        write_model(made, config)
        yield made


def bytes_read(
    config: ModelConfig, dtype: str, context: int, cache: str | None = None, experts_read: float | None = None
) -> int:
    """The bytes that a decoding step must read: every matrix once, and the cache of `context` positions.

    Of a mixture it reads some of the experts. experts_read: how many of a layer on average, as the kernels count them
    in `decode`; default: those of one token. A router is float32.

    Scales count: 4 bytes for each output of 8-bit weights, 2 for each 32 inputs of an output of 4-bit ones. Not
    counted: one row of the embedding, and norms and biases, which are small. cache: the type of the cache, the scales
    of int8 and int4 among its bytes; default: that of the activations, float16 for quantised weights. A tied head is
    the embedding, read whole.
    """
    quantization = Quantization(BITS[dtype]) if dtype in ("int8", "int4") else None
    matrices = 0.0
    for weight in quantized_weights(config).values():
        if weight.is_matrix:
            share = 1.0
            if weight.is_routed:
                read = config.experts.per_token if experts_read is None else experts_read
                share = read / config.experts.n_experts
            matrices += share * _matrix_bytes(weight, quantization, BITS[dtype] / 8)
    cache = cache or cache_dtype(dtype)
    return int(matrices + kv_bytes(config, 1, context, cache, cache_scale_bytes(cache, config.d_head)))


def weights_size(config: ModelConfig, quantization: Quantization | None) -> dict[str, float]:
    """What the weights of a model take, in float32 or quantised.

    "n_bytes": all of them. "multiplied_bytes": the matrices that a step multiplies, the head and every expert among
    them. "bits": those of one weight of these matrices, scales included.
    """
    matrices = [weight for weight in quantized_weights(config).values() if weight.is_matrix]
    multiplied = sum(_matrix_bytes(weight, quantization, 4.0) for weight in matrices)
    if quantization is None:
        n_bytes = sum(4 * math.prod(shape) for shape in weight_shapes(config).values())
    else:
        arrays = quantized_shapes(config, quantization).values()
        n_bytes = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in arrays)
    return _size(n_bytes, multiplied, sum(weight.size for weight in matrices))


def file_size(path: str | os.PathLike) -> dict[str, Any]:
    """What the weights of a GGUF file take, as `weights_size` says it, and the "block_type" of most of them.

    Where there is no head, the embedding is multiplied instead.
    """
    tensors = open_gguf(path).tensors
    tables = {"position_embd.weight", "token_types.weight"}
    if "output.weight" in tensors:
        tables.add("token_embd.weight")
    matrices = [tensor for name, tensor in tensors.items() if len(tensor.shape) > 1 and name not in tables]
    types = Counter()
    for tensor in matrices:
        types[tensor.block_type] += math.prod(tensor.shape)
    n_bytes = sum(tensor.data.nbytes for tensor in tensors.values())
    multiplied = sum(tensor.data.nbytes for tensor in matrices)
    return _size(n_bytes, multiplied, types.total()) | {"block_type": types.most_common(1)[0][0]}


def _matrix_bytes(weight: Weight, quantization: Quantization | None, each: float) -> float:
    """The bytes of a matrix, or of those of all experts; each: those of a number that is not quantised."""
    if not weight.is_compressed:
        return 4.0 * weight.size
    if quantization is None:
        return each * weight.size
    return weight.n_matrices * quantization.weight_bytes(*weight.shape[-2:])


def _size(n_bytes, multiplied, count):
    return {"n_bytes": int(n_bytes), "multiplied_bytes": int(multiplied), "bits": 8 * multiplied / count}
