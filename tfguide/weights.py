"""Canonical weight names and shapes, and a seeded initialisation: the dictionary that all three implementations read.

Names are the attribute paths of the layers in `tfguide.torch` and `tfguide.tensorflow`, so that a name in an error
message is also the way to the tensor. Matrices are (in, out).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.dtypes import NAMES

DTYPES = ("float32", "bfloat16", "float16")


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The name and the shape of every weight of a model, in the order of the forward pass.

    >>> config = ModelConfig(kind="decoder", d_model=8, n_layers=1, n_heads=2, d_ff=16, vocab_size=11)
    >>> weight_shapes(config)["decoder.layers.0.self_attention.query.weight"]
    (8, 8)

    Raises NotImplementedError for a part that has no layers here: query/key norms, latent attention, experts.
    """
    return dict(_weights(config))


def init_weights(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """A fresh float32 dictionary: the same for one seed, whatever the platform or the framework.

    Matrices are normal with standard deviation `1 / sqrt(in)`, so that activations keep their size; those that write
    into the residual stream are divided by `sqrt(2 L)` (Radford et al. 2019, section 2.3). Embeddings have standard
    deviation 0.02, biases are 0, norm weights are 1. Each tensor has a stream of its own, keyed by its name: changing
    one size leaves the other tensors as they were.

    Raises TypeError where the seed is not an integer, ValueError where it is negative.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    seed = check_count("seed", seed, least=0)
    return {name: _init(config, name, shape, seed) for name, shape in _weights(config)}


def check_weights(config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Check that a dictionary has exactly the names and shapes of `weight_shapes(config)`, in a floating type.

    Raises ValueError that names the first missing, extra or wrongly shaped tensor, TypeError for a wrong type.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights must be a dictionary of arrays, got {type(weights).__name__}")
    expected = weight_shapes(config)
    missing = [name for name in expected if name not in weights]
    if missing:
        raise ValueError(f"missing weight {missing[0]!r} {expected[missing[0]]}{_and_more(missing)}")
    extra = sorted(str(name) for name in weights if name not in expected)
    if extra:
        raise ValueError(f"unexpected weight {extra[0]!r}: the configuration has no such tensor{_and_more(extra)}")
    for name, shape in expected.items():
        array = weights[name]
        if tuple(np.shape(array)) != shape:
            raise ValueError(f"weight {name!r} must have shape {shape}, got {tuple(np.shape(array))}")
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            got = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"weight {name!r} must be a NumPy array of a floating type, got {got}")


def check_dtype(dtype: str) -> None:
    """Raises ValueError for a type of weights that is none of DTYPES."""
    if dtype not in DTYPES:
        meant = NAMES.get(dtype.lower()) if isinstance(dtype, str) else None
        hint = f"; did you mean {meant!r}?" if meant in DTYPES else ""
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}{hint}")


def stays_float32(config: ModelConfig, name: str, dtype: str) -> bool:
    """Whether a weight is kept in float32 in a model of `dtype`: T5's last matrix of the feed-forward networks.

    What it computes is beyond float16's 65,504 in published models, so it and the sum of the layers are float32 there,
    as in transformers. bfloat16 has the range of float32.
    """
    return dtype == "float16" and config.positions == "relative" and ".feed_forward.down." in name


def attention_names(config: ModelConfig) -> list[str]:
    """The name of every attention layer, in the order of the forward pass.

    >>> config = ModelConfig(kind="decoder", d_model=8, n_layers=2, n_heads=2, d_ff=16, vocab_size=11)
    >>> attention_names(config)
    ['decoder.layers.0.self_attention', 'decoder.layers.1.self_attention']
    """
    suffix = "attention.query.weight"
    return [name.removesuffix(".query.weight") for name, _ in _weights(config) if name.endswith(suffix)]


def _and_more(names) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _init(config, name, shape, seed) -> np.ndarray:
    if name.endswith(".bias"):
        return np.zeros(shape, np.float32)
    if "norm" in name:
        return np.ones(shape, np.float32)
    stream = np.random.default_rng([seed, zlib.crc32(name.encode())])
    array = stream.standard_normal(shape, dtype=np.float32)
    array *= np.float32(_deviation(config, name, shape))
    return array


def _deviation(config, name, shape) -> float:
    if name.startswith("embedding."):
        return 0.02
    if ".relative_bias." in name:
        return 1.0
    deviation = shape[0] ** -0.5
    if name.endswith(("attention.output.weight", "feed_forward.down.weight")):
        deviation /= math.sqrt(2 * config.n_layers)
    if name.endswith("attention.query.weight"):
        # Scores have the same spread whether the scale stands in the formula or, as in T5, in the weights.
        deviation /= config.attention_scale * math.sqrt(config.d_head)
    return deviation


def _weights(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    config.check_implemented()
    D, V = config.d_model, config.vocab_size
    yield "embedding.token.weight", (V, D)
    if config.positions == "learned":
        yield "embedding.position.weight", (config.max_positions, D)
    if config.n_token_types:
        yield "embedding.token_type.weight", (config.n_token_types, D)
    if config.embedding_norm:
        yield from _norm(config, "embedding.norm")
    if config.kind != "decoder":
        yield from _stack(config, "encoder", config.n_encoder_layers or config.n_layers, cross=False)
    if config.kind != "encoder":
        yield from _stack(config, "decoder", config.n_layers, cross=config.kind == "encoder-decoder")
        if not config.tied_head:
            yield "head.weight", (D, V)
    if config.pooler:
        yield from _linear("pooler", D, D, bias=True)


def _stack(config, name, n_layers, cross):
    if config.positions == "relative":
        yield f"{name}.relative_bias.weight", (config.relative_buckets, config.n_heads)
    for layer in range(n_layers):
        block = f"{name}.layers.{layer}"
        yield from _norm(config, f"{block}.self_attention_norm")
        yield from _attention(config, f"{block}.self_attention")
        if cross:
            yield from _norm(config, f"{block}.cross_attention_norm")
            yield from _attention(config, f"{block}.cross_attention")
        if config.norm_placement != "parallel":  # a parallel block has one norm for both
            yield from _norm(config, f"{block}.feed_forward_norm")
        if config.gated:
            yield from _linear(f"{block}.feed_forward.gate", config.d_model, config.d_ff, config.ffn_bias)
        yield from _linear(f"{block}.feed_forward.up", config.d_model, config.d_ff, config.ffn_bias)
        yield from _linear(f"{block}.feed_forward.down", config.d_ff, config.d_model, config.ffn_bias)
    if config.final_norm:
        yield from _norm(config, f"{name}.final_norm")


def _attention(config, name):
    D, d = config.d_model, config.d_head
    yield from _linear(f"{name}.query", D, config.n_heads * d, config.qkv_bias)
    yield from _linear(f"{name}.key", D, config.n_kv_heads * d, config.qkv_bias)
    yield from _linear(f"{name}.value", D, config.n_kv_heads * d, config.qkv_bias)
    yield from _linear(f"{name}.output", config.n_heads * d, D, config.output_bias)


def _linear(name, d_in, d_out, bias):
    yield f"{name}.weight", (d_in, d_out)
    if bias:
        yield f"{name}.bias", (d_out,)


def _norm(config, name):
    yield f"{name}.weight", (config.d_model,)
    if config.norm == "layer" and config.norm_bias:
        yield f"{name}.bias", (config.d_model,)
