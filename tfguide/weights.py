"""The table of a model's weights: the name, shape, role and axes of each, and lists that are read from it.

Names are the attribute paths of the layers in `tfguide.torch` and `tfguide.tensorflow`, so that a name in an error
message is also the path to the tensor. Matrices are (in, out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from tfguide.config import ModelConfig
from tfguide.dtypes import NAMES
from tfguide.weight_rows import weight_rows

DTYPES = ("float32", "bfloat16", "float16")
TABLE_ROLES = ("embedding", "positions", "token_types", "relative_bias")
VECTOR_ROLES = ("norm", "bias", "sinks")
MATRIX_ROLES = ("attention", "feed_forward", "router", "expert", "head", "pooler", "input", "labels")
PARTS = ("embedding", "attention", "feed_forward", "norms", "head")


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of a model.

    role: one of TABLE_ROLES (the rows are looked up), VECTOR_ROLES or MATRIX_ROLES (the layers multiply by them).
    part: the one of PARTS in which the weight is counted: the biases of norms in "norms", the norms inside attention in
    "attention". axes: for each axis of the array, the names of the sizes whose product is its length, outermost first;
    a query matrix has (("D",), ("H", "d")), and `axis_sizes` has the sizes. The matrices and biases of experts are
    stacked along a first axis, ("experts",); those of experts that every token passes through lie side by side, as one
    matrix of ("shared", "d_expert") features.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    part: str
    axes: tuple[tuple[str, ...], ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether the weight is the matrix of a linear layer, (in, out), or one of each expert, (experts, in, out)."""
        return self.role in MATRIX_ROLES

    @property
    def is_compressed(self) -> bool:
        """Whether quantisation and pruning change it.

        Every matrix but a router, whose few numbers decide much, and the map of vectors that come in, which stands
        where others have an embedding, and whose inputs may be too few for a group of 4-bit weights.
        """
        return self.is_matrix and self.role not in ("router", "input")

    @property
    def n_matrices(self) -> int:
        """How many matrices the array holds: one, or one for each expert."""
        return math.prod(self.shape[:-2])

    @property
    def is_routed(self) -> bool:
        """Whether the weight holds a matrix or a bias for each of the routed experts."""
        return len(self.axes) > 1 and self.axes[0] == ("experts",)


@lru_cache(maxsize=16)
def weight_table(config: ModelConfig) -> Mapping[str, Weight]:
    """Every weight of a model by name, in the order of the forward pass; read-only.

    >>> config = ModelConfig(kind="decoder", d_model=8, n_layers=1, n_heads=2, d_ff=16, vocab_size=11)
    >>> weight_table(config)["decoder.layers.0.self_attention.query.weight"].axes
    (('D',), ('H', 'd'))
    """
    sizes = axis_sizes(config)
    table = {}
    for name, role, part, text in weight_rows(config):
        axes = tuple(tuple(axis.split()) for axis in text.split(", "))
        shape = tuple(math.prod(sizes[size] for size in axis) for axis in axes)
        table[name] = Weight(name, shape, role, part, axes)
    return MappingProxyType(table)


def axis_sizes(config: ModelConfig) -> dict[str, int]:
    """The sizes of the axes of weights by name: a letter of the book, or the name of the configuration's field.

    A name with a plus is the total width of two vectors that one matrix computes.
    """
    sizes = {
        "D": config.d_model, "F": config.d_ff, "H": config.n_heads, "K": config.n_kv_heads, "d": config.d_head,
        "V": config.vocab_size, "d_input": config.d_input, "token_types": config.n_token_types,
        "buckets": config.relative_buckets,
    }  # fmt: skip
    if config.max_positions is not None:
        sizes["positions"] = config.max_positions + config.position_offset
    if config.labels is not None:
        sizes["n_labels"] = config.labels.n_labels
    if config.experts is not None:
        experts = config.experts
        sizes |= {"experts": experts.n_experts, "shared": experts.n_shared, "d_expert": experts.d_expert}
    if config.latent is not None:
        latent = config.latent
        sizes |= {
            "kv_rank": latent.kv_rank, "kv_rank+d_rope": latent.kv_rank + latent.d_rope, "d_value": latent.d_value,
            "d_nope+d_rope": latent.d_nope + latent.d_rope, "d_nope+d_value": latent.d_nope + latent.d_value,
        }  # fmt: skip
        if latent.query_rank is not None:
            sizes["query_rank"] = latent.query_rank
    return sizes


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The name and the shape of every weight of a model, in the order of the forward pass.

    >>> config = ModelConfig(kind="decoder", d_model=8, n_layers=1, n_heads=2, d_ff=16, vocab_size=11)
    >>> weight_shapes(config)["decoder.layers.0.self_attention.query.weight"]
    (8, 8)
    """
    return {name: weight.shape for name, weight in weight_table(config).items()}


def matrix_names(config: ModelConfig) -> list[str]:
    """The matrices of the linear layers, in the order of the forward pass; a tied head has no matrix."""
    return [name for name, weight in weight_table(config).items() if weight.is_matrix]


def vector_names(config: ModelConfig) -> list[str]:
    """The vectors of the fast decoder: norms with their biases, sinks, routers, and tables of positions and types.

    The biases of linear layers belong to their matrices.
    """
    roles = ("norm", "sinks", "positions", "token_types")
    return [
        name
        for name, weight in weight_table(config).items()
        if weight.part == "norms" or weight.role in roles or ".router." in name
    ]


def attention_names(config: ModelConfig) -> list[str]:
    """The name of every attention layer, in the order of the forward pass.

    >>> config = ModelConfig(kind="decoder", d_model=8, n_layers=2, n_heads=2, d_ff=16, vocab_size=11)
    >>> attention_names(config)
    ['decoder.layers.0.self_attention', 'decoder.layers.1.self_attention']
    """
    return _layers(config, "attention")


def feed_forward_names(config: ModelConfig) -> list[str]:
    """The name of every feed-forward network but the experts, in the order of the forward pass."""
    return _layers(config, "feed_forward")


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
    """Raises ValueError for a type of weights that is not one of DTYPES."""
    if dtype not in DTYPES:
        meant = NAMES.get(dtype.lower()) if isinstance(dtype, str) else None
        hint = f"; did you mean {meant!r}?" if meant in DTYPES else ""
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}{hint}")


def stays_float32(config: ModelConfig, name: str, dtype: str) -> bool:
    """Whether a weight is kept in float32 in a model of `dtype`, as in transformers.

    The outputs of the last layer of T5's feed-forward networks exceed float16's 65,504 in published models, so this
    layer and the residual stream are float32; bfloat16 has the range of float32. The correction of a router decides
    between scores that are nearly equal.
    """
    if name.endswith(".correction_bias"):
        return True
    if dtype != "float16" or config.positions != "relative":
        return False
    weight = weight_table(config)[name]
    return weight.part == "feed_forward" and weight.axes[-1] == ("D",)


def _layers(config, role):
    """The names of the layers with a matrix of a role: NAME in NAME.query.weight."""
    matrices = (name for name, weight in weight_table(config).items() if weight.role == role)
    return list(dict.fromkeys(name.rsplit(".", 2)[0] for name in matrices))


def _and_more(names) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
