"""The ways in which `tfguide.bench.trade` makes one model smaller, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.bench.models import weights_size
from tfguide.compress import Quantization
from tfguide.compress.models import layer_changes
from tfguide.config import ModelConfig
from tfguide.cost.memory import weight_bytes

NUMBERS, ZEROS, SMALLER = "types of numbers", "zeros", "smaller matrices"


@dataclass(frozen=True)
class Variant:
    """One way to make a model smaller.

    make: of a framework, the float32 model and tokens (B, T) to calibrate on, the new model. dtype: of the weights.
    like: the variant with the same shapes and kernels, whose time it has; default: none.
    """

    name: str
    family: str
    make: Callable[[Any, Any, np.ndarray], Any]
    dtype: str = "float32"
    like: str | None = None


def repaired_name(name: str) -> str:
    """The name of a variant that was trained further."""
    return f"{name}, trained further"


def weights_bytes(config: ModelConfig, variant: Variant) -> float:
    """The bytes of the weights of a model of a configuration, in the type of a variant, with scales; zeros count."""
    if variant.dtype in ("int8", "int4"):
        return weights_size(config, Quantization(int(variant.dtype.removeprefix("int"))))["n_bytes"]
    return weight_bytes(config, variant.dtype)


def fewer_neurons(tg: Any, model: Any) -> Any:
    """Three quarters of the neurons of each network, a multiple of 32."""
    return tg.prune_neurons(model, max(32, model.config.d_ff * 3 // 4 // 32 * 32))


def fewer_layers(tg: Any, model: Any, tokens: np.ndarray) -> Any:
    """Without the tenth of the layers, at least one, that changes its input least on the first 8 rows of tokens."""
    return tg.prune_layers(model, least_changing(model, tokens[:8], max(1, model.config.n_layers // 10)))


def least_changing(model: Any, tokens: np.ndarray, n_layers: int) -> list[int]:
    """The numbers of the layers that change their input least on tokens (B, T), in ascending order."""
    changes = layer_changes(model, tokens)
    return sorted(np.argsort(changes, kind="stable")[:n_layers].tolist())


def pooled_heads(tg: Any, model: Any) -> Any:
    """One key/value head, the mean of all: multi-query attention."""
    return tg.pool_kv_heads(model, 1)


def _bfloat16(tg, model, tokens):
    return tg.from_weights(model.config, model.to_weights(), "bfloat16")


VARIANTS = (
    Variant("float32", NUMBERS, lambda tg, model, tokens: model),
    Variant("bfloat16", NUMBERS, _bfloat16, "bfloat16"),
    Variant("8 bits", NUMBERS, lambda tg, model, tokens: tg.quantize(model, 8), "int8"),
    Variant("8 bits, 8-bit activations", NUMBERS, lambda tg, model, tokens: tg.quantize(model, 8, 8), "int8"),
    Variant("4 bits", NUMBERS, lambda tg, model, tokens: tg.quantize(model, 4), "int4"),
    Variant("4 bits, calibrated", NUMBERS, lambda tg, model, tokens: tg.quantize(model, 4, calibration=tokens), "int4",
            "4 bits"),
    Variant("4 bits, 8-bit activations", NUMBERS, lambda tg, model, tokens: tg.quantize(model, 4, 8), "int4"),
    Variant("2 of 4", ZEROS, lambda tg, model, tokens: tg.prune_two_four(model)),
    Variant("2 of 4, calibrated", ZEROS, lambda tg, model, tokens: tg.prune_two_four(model, tokens), like="2 of 4"),
    Variant("any half", ZEROS, lambda tg, model, tokens: tg.prune_magnitude(model, 0.5), like="2 of 4"),
    Variant("any half, calibrated", ZEROS,
            lambda tg, model, tokens: tg.prune_magnitude(model, 0.5, "output", tokens), like="2 of 4"),
    Variant("fewer neurons", SMALLER, lambda tg, model, tokens: fewer_neurons(tg, model)),
    Variant("fewer layers", SMALLER, fewer_layers),
    Variant("pooled heads", SMALLER, lambda tg, model, tokens: pooled_heads(tg, model)),
)  # fmt: skip
