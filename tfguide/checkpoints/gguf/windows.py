"""Which layers see a window only, as the key `attention.sliding_window_pattern` of a GGUF file says it."""

from __future__ import annotations

from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig


def windows(fields: Fields, architecture: str, n_layers: int, period: int) -> dict[str, Any]:
    """The fields `sliding_window` and `sliding_layers` of a ModelConfig; both None where no layer has a window.

    The key is a number p, of layers of which the last one sees everything (0: no layer does), or true or false for each
    layer. period: p where the key is absent. Raises ValueError.
    """
    window = fields.count(f"{architecture}.attention.sliding_window", 0, least=0)
    key = f"{architecture}.attention.sliding_window_pattern"
    said = fields.look(key, period)
    if isinstance(said, bool):  # of every layer
        kinds = [fields.flag(key, said)] * n_layers
    elif isinstance(said, list):
        kinds = fields.entries(key, None)
    else:
        period = fields.count(key, period, least=0)
        kinds = [period == 0 or (layer + 1) % period != 0 for layer in range(n_layers)]
    if len(kinds) != n_layers or not all(isinstance(kind, (bool, int)) for kind in kinds):
        raise ValueError(f"{key} must be a number, or true or false for each of {n_layers} layers, got {said!r}")
    sliding = tuple(layer for layer, kind in enumerate(kinds) if kind)
    if not window or not sliding:
        return dict(sliding_window=None, sliding_layers=None)
    return dict(sliding_window=window, sliding_layers=None if len(sliding) == n_layers else sliding)


def window_keys(config: ModelConfig, architecture: str) -> dict[str, Any]:
    """The keys of the windows of a configuration; none where it has none."""
    if config.sliding_window is None:
        return {}
    kinds = [config.slides(layer) for layer in range(config.n_layers)]
    period = kinds.index(False) + 1 if False in kinds else config.n_layers + 1
    regular = kinds == [(layer + 1) % period != 0 for layer in range(config.n_layers)]
    return {
        f"{architecture}.attention.sliding_window": config.sliding_window,
        f"{architecture}.attention.sliding_window_pattern": period if regular else kinds,
    }
