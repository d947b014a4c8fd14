"""What keeps a format from expressing a configuration: written and read back, it would be another one."""

from __future__ import annotations

import dataclasses
import math

from tfguide.config import ModelConfig


def differences(config: ModelConfig, read_back: ModelConfig, tolerance: float = 1e-12) -> list[str]:
    """The fields that come back different and that a model of this configuration reads, each as text.

    tolerance: relative, of numbers that are no integers.
    """
    found = []
    for field in dataclasses.fields(config):
        ours, theirs = getattr(config, field.name), getattr(read_back, field.name)
        if field.name not in _without_effect(config) and not _same(ours, theirs, tolerance):
            found.append(f"{field.name}={ours!r} (it has {theirs!r})")
    return found


def _without_effect(config) -> set[str]:
    """The fields that a model of this configuration never reads."""
    fields = set()
    if config.kind == "encoder":
        fields |= {"tied_head", "logit_scale"}
    if config.norm == "rms":
        fields |= {"norm_bias"}
    if config.positions != "rotary":
        fields |= {"rope_theta", "d_rotary"}
    if config.positions != "relative":
        fields |= {"relative_buckets", "relative_max_distance"}
    if config.experts is not None and config.experts.n_dense_layers == 0:
        fields |= {"d_ff"}
    return fields


def _same(a, b, tolerance) -> bool:
    return a == b or (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=tolerance))
