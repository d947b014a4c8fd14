"""Scalings of rotary positions in a GGUF file: as keys of the metadata, or as the divisors of a tensor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import rope
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.scalings import LinearScaling, RopeScaling, Scaling, YarnScaling

_KINDS = {name: name for name in ("none", "linear", "yarn")}


def read_scaling(fields: Fields, file: GgufFile, d_rotary: int, theta: float) -> Scaling | None:
    """The scaling: YaRN's or one divisor for all frequencies from the metadata, times the divisors of a tensor."""
    key = f"{file.architecture}.rope.scaling"
    kind = fields.choice(f"{key}.type", "linear", _KINDS)
    older = fields.number(f"{file.architecture}.rope.scale_linear", 1.0)
    factor = fields.number(f"{key}.factor", older) or 1.0  # 0: as if it were absent
    trained = fields.count(f"{key}.original_context_length", None)
    if kind == "yarn":
        return _read_yarn(fields, file, factor, trained)
    fields.fixed(f"{key}.attn_factor", 1.0, "scores that the scaling of positions does not change")
    factor = factor if kind == "linear" else 1.0
    if rope.TENSOR not in file.tensors and factor > 0.0:
        return None if factor == 1.0 else LinearScaling(factor=factor)
    divisors = np.full(d_rotary // 2, factor)
    if rope.TENSOR in file.tensors:
        tensor = file.tensors[rope.TENSOR]
        if tensor.shape != divisors.shape:
            raise ValueError(f"tensor {rope.TENSOR!r} must have shape {divisors.shape}, got {tensor.shape}")
        divisors = divisors * tensor.dequantised()
    return rope.scaling_of(divisors, theta, trained)


def scaling_keys(scaling: Scaling | None) -> dict[str, Any]:
    """The keys of a scaling, without the name of the architecture; none for a kind that these keys do not have."""
    keys = {}
    if isinstance(scaling, (LinearScaling, YarnScaling)):
        keys |= {"type": scaling.kind, "factor": scaling.factor}
    if isinstance(scaling, (RopeScaling, YarnScaling)):
        keys["original_context_length"] = scaling.original_max_positions
    if isinstance(scaling, YarnScaling):
        if scaling.attention_factor is not None:
            keys["attn_factor"] = scaling.attention_factor / _yarns_own(scaling.factor)
        usual = (scaling.beta_fast, scaling.beta_slow) == (32.0, 1.0)
        keys |= {} if usual else {"yarn_beta_fast": scaling.beta_fast, "yarn_beta_slow": scaling.beta_slow}
    return {f"rope.scaling.{name}": value for name, value in keys.items()}


def _read_yarn(fields, file, factor, trained):
    key = f"{file.architecture}.rope.scaling"
    if rope.TENSOR in file.tensors:
        raise ValueError(f"{key}.type is 'yarn', so there must be no tensor {rope.TENSOR!r}")
    for name in ("yarn_ext_factor", "yarn_attn_factor"):
        fields.fixed(f"{key}.{name}", 1.0, "YaRN as it was published")
    fields.fixed(f"{key}.yarn_log_multiplier", 0.0, "YaRN as it was published")
    more = fields.number(f"{key}.attn_factor", 1.0)
    return YarnScaling(
        factor=factor,
        original_max_positions=trained or fields.look(f"{file.architecture}.context_length", None),
        attention_factor=None if more == 1.0 else more * _yarns_own(factor),
        beta_fast=fields.number(f"{key}.yarn_beta_fast", 32.0),
        beta_slow=fields.number(f"{key}.yarn_beta_slow", 1.0),
    )


def _yarns_own(factor) -> float:
    """What llama.cpp multiplies cosines and sines by, beside the attention factor of the file."""
    return 0.1 * math.log(factor) + 1.0 if factor > 1.0 else 1.0
