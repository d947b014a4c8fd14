"""The attention weights of a model, for inspection."""

from __future__ import annotations

from typing import Any

from tfguide.weights import attention_names


def attention_maps(model: Any, *inputs: Any, **masks: Any) -> dict[str, Any]:
    """The weights (B, H, T, S) of every attention layer by name; arguments as in the model's call."""
    maps = []
    model(*inputs, **masks, record=maps.append)
    return dict(zip(attention_names(model.config), maps, strict=True))
