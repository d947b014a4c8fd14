"""Which layers of a decoder see a window only, as the keys of a config.json say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig

FULL, SLIDING = "full_attention", "sliding_attention"


def windows(fields: Fields, defaults: Mapping[str, Any], n_layers: int) -> dict[str, Any]:
    """The fields `sliding_window` and `sliding_layers` of a ModelConfig; both None where no layer has a window.

    defaults: of a family; a key that is not among them is one that its class does not read. Raises ValueError.
    """
    if "sliding_window" not in defaults:
        return dict(sliding_window=None, sliding_layers=None)
    used = "use_sliding_window" not in defaults or fields.flag("use_sliding_window", defaults["use_sliding_window"])
    window = fields.count("sliding_window", defaults["sliding_window"], null=True)
    if "layer_types" not in defaults:  # a family whose layers are the same
        return dict(sliding_window=window if used else None, sliding_layers=None)
    sliding = _sliding(fields, defaults, n_layers, used and window is not None)
    some = 0 < len(sliding) < n_layers
    return dict(sliding_window=window if sliding else None, sliding_layers=sliding if some else None)


def layer_types(config: ModelConfig) -> list[str]:
    """The key of this name for a configuration."""
    sliding = range(config.n_layers) if config.sliding_layers is None else config.sliding_layers
    sliding = () if config.sliding_window is None else sliding
    return [SLIDING if layer in sliding else FULL for layer in range(config.n_layers)]


def _sliding(fields, defaults, n_layers, used) -> tuple[int, ...]:
    if "sliding_window_pattern" in defaults:  # every so many layers, one sees everything
        period = fields.count("sliding_window_pattern", defaults["sliding_window_pattern"])
        usual = tuple(layer for layer in range(n_layers) if (layer + 1) % period)
    else:
        first = fields.count("max_window_layers", defaults["max_window_layers"], least=0)
        usual = tuple(range(min(first, n_layers), n_layers))
    kinds = fields.entries("layer_types", defaults["layer_types"])
    if kinds is None:
        return usual if used else ()
    unknown = [kind for kind in kinds if kind not in (FULL, SLIDING)]
    if unknown or len(kinds) != n_layers:
        raise ValueError(
            f"layer_types must name {FULL} or {SLIDING} for each of {n_layers} layers, "
            f"got {len(kinds)} of which unknown: {unknown[:3]}"
        )
    sliding = tuple(layer for layer, kind in enumerate(kinds) if kind == SLIDING)
    if sliding and not used:
        raise fields.unsupported("layer_types", kinds, f"{SLIDING!r} needs a sliding_window that is used")
    return sliding
