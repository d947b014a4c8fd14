"""Bytes of the weights and of the key/value cache, and the longest context that fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS
from tfguide.checks.values import check_choice, check_count, check_number
from tfguide.compress import Quantization
from tfguide.compress.quantized import quantized_weights
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.parameters import expert_parameters, parameters
from tfguide.dtypes import BITS, CACHE_DTYPES, choose_cache_dtype, dtype_bytes
from tfguide.generation.blockwise import BLOCK, group_sizes, tensor_sizes
from tfguide.generation.rings import layer_slots
from tfguide.weights import weight_table

BYTES = {name: dtype_bytes(name) for name in BITS}
ATTENTIONS = ("batch", "head")

#: The bits of a number of an expert in types whose blocks have a scale of 8 bits: 32 numbers in mxfp, 16 in nvfp4.
BLOCK_BITS = {"mxfp4": 4 + 8 / 32, "nvfp4": 4 + 8 / 16, "mxfp8": 8 + 8 / 32}


def weight_bytes(config: ModelConfig, dtype: str = "bfloat16", experts: str | None = None) -> float:
    """The bytes of all parameters in one type, or with the matrices of routed experts in another.

    experts: their type, see `expert_bytes`; default: the type of the rest. gpt-oss has them in mxfp4.
    Not counted: the scales of other quantised weights (0.4% in int8 by channel, 6 to 12% in int4 by groups of 32), and
    that some layers may stay unquantised; `quantized_bytes` counts both for this package's quantised models.

    >>> round(weight_bytes(ModelConfig.from_preset("gpt-oss-20b"), "bfloat16", "mxfp4") / 2**30, 1)  # GiB
    12.8
    """
    total = parameters(config) * dtype_bytes(dtype)
    if experts is None or config.experts is None:
        return total
    routed = expert_parameters(config, biases=False) * config.experts.n_experts
    return total + routed * (expert_bytes(experts) - dtype_bytes(dtype))


def expert_bytes(dtype: str) -> float:
    """The bytes of one number of an expert's matrix; "mxfp4", "mxfp8" and "nvfp4" with the scales of their blocks.

    Raises as `dtype_bytes`.

    >>> expert_bytes("mxfp4") * 8, expert_bytes("float8") * 8
    (4.25, 8.0)
    """
    bits = BLOCK_BITS.get(dtype.lower()) if isinstance(dtype, str) else None
    return dtype_bytes(dtype) if bits is None else bits / 8


def quantized_bytes(config: ModelConfig, quantization: Quantization, dtype: str = "float32") -> int:
    """The bytes of a model of this package with quantised linear layers: their weights, scales and minima.

    dtype: of embeddings, norms and biases; a tied head is counted beside the embedding, since it is a quantised copy.
    Not counted: what pads the outputs of a layer to a multiple of 16.
    """
    weights = quantized_weights(config).values()
    packed = sum(w.n_matrices * quantization.weight_bytes(*w.shape[-2:]) for w in weights if w.is_compressed)
    return int(packed + sum(weight.size for weight in weights if not weight.is_compressed) * dtype_bytes(dtype))


def block_bytes(config: ModelConfig, block_types: Mapping[str, str]) -> int:
    """The bytes of the weights of a model that keeps some of them in blocks of a GGUF file; others are float32.

    block_types: `model.block_types`, such as "Q4_1" by canonical name. A tied head is the embedding, counted once.
    Raises ValueError for a name or a type that does not exist, and for rows that are no multiple of its blocks.
    """
    table, total = weight_table(config), 0
    for name in block_types:
        check_choice("the name of a weight in blocks", name, tuple(table))
    for name, weight in table.items():
        kind = block_types.get(name, "F32")
        check_choice("a type of blocks", kind, tuple(NUMBERS))
        block, row = BLOCK_TYPES[NUMBERS[kind]], weight.shape[-2 if weight.is_matrix else -1]
        if row % block.size:
            raise ValueError(f"{name!r} must have rows of a multiple of {block.size} numbers in type {kind}, got {row}")
        total += weight.size // block.size * block.n_bytes
    return total


def kv_bytes_per_token(config: ModelConfig, dtype: str = "bfloat16", scale_bytes: float = 0) -> float:
    """The bytes that one token takes in the caches of all layers: a key and a value of each key/value head.

    scale_bytes: of the scales of each cached vector, see `cache_scale_bytes` for this package's. Systems differ in
    them and published figures omit them, so the default is 0. Latent attention caches the latent vector and the
    rotated part, once for all heads. Not counted: the cross-attention of an encoder-decoder, whose cache depends on
    the source. An encoder caches nothing.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    if config.kind == "encoder":
        return 0
    if config.latent is not None:
        elements, vectors = config.latent.kv_rank + config.latent.d_rope, 2
    else:
        elements, vectors = 2 * config.n_kv_heads * config.d_head, 2 * config.n_kv_heads
    total = config.n_layers * (elements * dtype_bytes(dtype) + vectors * scale_bytes)
    return int(total) if total == int(total) else total


def kv_bytes(config: ModelConfig, batch: int, context: int, dtype: str = "bfloat16", scale_bytes: float = 0) -> float:
    """The bytes of the cache of `batch` sequences of `context` tokens; a layer with a window caches no more than that.

    scale_bytes: as in `kv_bytes_per_token`. Raises ValueError for a batch below 1 or a context below 0.
    """
    check_count("batch", batch)
    check_count("context", context, least=0)
    per_token = kv_bytes_per_token(config, dtype, scale_bytes)
    return batch * per_token * kept_positions(config, context) / config.n_layers


def cache_dtype(weights: str) -> str:
    """The type in which a model of this package caches keys and values by default: float16 beside quantised weights."""
    quantized = weights in ("int8", "int4")
    return choose_cache_dtype(None, "float32" if quantized else weights, quantized)


def cache_scale_bytes(dtype: str, d_head: int) -> float:
    """The bytes of the scales of a vector of `d_head` numbers in a cache of this package, the mean of keys and values.

    int8: 4, a float32. int4: a step and a minimum in float16, for each channel of 32 keys and for each group of a
    value; the odd half byte of an odd `d_head` is among them. Else 0.

    >>> cache_scale_bytes("int8", 64), cache_scale_bytes("int4", 64)
    (4, 8.0)
    """
    if dtype != "int4":
        return 4 if dtype == "int8" else 0
    return 4 * (d_head / BLOCK + group_sizes(d_head)[0]) / 2 + d_head % 2 / 2


def cache_bytes(config: ModelConfig, batch: int, max_length: int, dtype: str = "float32") -> int:
    """The bytes of a `KVCache` of this package, filled or not: `model.new_cache(batch, max_length, dtype).nbytes`.

    dtype: "float32", "bfloat16", "float16", "int8" or "int4"; the scales are counted, and the float16 keys of up to 64
    positions of an `Int4KVCache`, which has room for whole blocks of 32. A layer with a window has room for a ring, as
    `tfguide.generation.rings` says, but in an `Int4KVCache` for all positions. Raises TypeError or ValueError for
    another type, and for sizes below 1.
    """
    check_choice("dtype", dtype, CACHE_DTYPES)
    check_count("batch", batch)
    check_count("max_length", max_length)
    if dtype != "int4":
        per_token = kv_bytes_per_token(config, dtype, cache_scale_bytes(dtype, config.d_head))
        return int(batch * sum(layer_slots(config, max_length)) * per_token / config.n_layers)
    sizes = tensor_sizes(config, batch, max_length).values()
    return config.n_layers * sum(math.prod(size) * (1 if kind == "uint8" else 2) for size, kind in sizes)


def kept_positions(config: ModelConfig, context: int) -> int:
    """The positions in the caches of all layers together, after `context` tokens of one sequence."""
    sliding = config.n_sliding_layers
    kept = min(context, config.sliding_window) if sliding else 0
    return (config.n_layers - sliding) * context + sliding * kept


def kv_share(config: ModelConfig, chips: int, attention: str = "batch", batch: int | None = None,
             padded_heads: int | None = None) -> float:  # fmt: skip
    """The part of the whole cache that each chip must hold.

    attention: "batch" divides the sequences among the chips, and no chip holds less than one sequence. "head" divides
    the key/value heads, and each chip holds at least one, so that fewer heads than chips are stored several times.
    padded_heads: the number of heads after padding to one that the chips divide (PaLM 540B: 48 to 64).
    Source: Pope et al. 2022, section 3.3. Raises ValueError.
    """
    check_count("chips", chips)
    check_choice("attention", attention, ATTENTIONS)
    if batch is not None:
        check_count("batch", batch)
    if attention == "batch":
        return 1 / chips if batch is None else math.ceil(batch / chips) / batch
    heads = stored = 1 if config.latent is not None else config.n_kv_heads
    if padded_heads is not None:
        check_count("padded_heads", padded_heads)
        if padded_heads < config.n_heads:
            raise ValueError(f"padded_heads must be at least n_heads={config.n_heads}, got {padded_heads}")
        if heads == config.n_heads:
            stored = padded_heads
    return math.ceil(stored / chips) / heads


def attention_share(config: ModelConfig, chips: int, attention: str, batch: int) -> float:
    """The part of attention's operations that the busiest chip does: no sequence, or no head, is divided."""
    n = batch if attention == "batch" else config.n_heads
    return math.ceil(n / chips) / n


def max_context(
    config: ModelConfig, chip: Chip | str, chips: int, batch: int, kv_fraction: float = 0.3, attention: str = "batch",
    dtype: str = "bfloat16", padded_heads: int | None = None, weights: str = "bfloat16",
) -> int | None:  # fmt: skip
    """The longest context, in tokens, whose cache for `batch` sequences fits into `kv_fraction` of the chips' memory,
    and beside the weights.

    dtype, weights: the types of the cache and of the weights. Returns 0 where not one token fits, for example where the
    weights do not fit; None where every length fits, since all layers have a sliding window. A sequence lies on one
    chip, except where its heads are divided. The positions that the model was trained for do not limit the result.
    Source: Pope et al. 2022, table 1. Raises ValueError where a number is out of range, or for an encoder.
    """
    chip = as_chip(chip)
    check_number("kv_fraction", kv_fraction, above=0.0)
    if kv_fraction > 1:
        raise ValueError(f"kv_fraction must be at most 1, got {kv_fraction}")
    if config.kind == "encoder":
        raise ValueError("an encoder has no key/value cache, and so no longest context")
    share = kv_share(config, chips, attention, batch, padded_heads)
    free = chip.hbm_bytes - weight_bytes(config, weights) / chips
    return longest_context(config, batch, share, min(kv_fraction * chip.hbm_bytes, free), dtype)


def longest_context(config: ModelConfig, batch: int, share: float, room: float, dtype: str = "bfloat16") -> int | None:
    """The longest context with which a chip's part of the cache fits into `room` bytes; see `max_context`.

    share: the part of the cache on one chip, see `kv_share`. Raises ValueError for a batch below 1.
    """
    check_count("batch", batch)

    def fits(context):
        return kv_bytes(config, batch, context, dtype) * share <= room

    if config.n_sliding_layers == config.n_layers and fits(config.sliding_window):
        return None
    return first_count(lambda context: not fits(context)) - 1


def first_count(holds: Callable[[int], bool], most: float = math.inf) -> int | None:
    """The smallest count from which on a condition holds, by doubling and bisection; None if it is above `most`."""
    last, found = 0, 1
    while not holds(found):
        last, found = found, 2 * found
        if found > most:
            return None
    while found - last > 1:
        middle = (last + found) // 2
        last, found = (last, middle) if holds(middle) else (middle, found)
    return found
