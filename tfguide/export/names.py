"""The names of a graph's inputs and outputs, which every target shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfguide.config import ModelConfig

PAST = "past_"  # before the name of what a decoder's graph takes and returns: "past_key_0" becomes "key_0"


def cached_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What a decoder's graph keeps of one position of a text, by name and layer, in the order of its inputs.

    >>> config = ModelConfig(kind="decoder", d_model=6, n_layers=2, n_heads=3, d_ff=5, vocab_size=7)
    >>> list(cached_shapes(config).items())[-1]
    ('value_1', (3, 2))
    """
    return {f"{name}_{layer}": shape for layer in range(config.n_layers) for name, shape in config.cached.items()}


def by_layer(config: ModelConfig, past: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What each layer of a decoder has kept, from a graph's inputs by name."""
    return [tuple(past[f"{PAST}{name}_{layer}"] for name in config.cached) for layer in range(config.n_layers)]


def by_name(config: ModelConfig, present: Iterable[Sequence[Any]]) -> dict[str, Any]:
    """What each layer keeps now, as a graph's outputs by name."""
    return dict(zip(cached_shapes(config), (part for layer in present for part in layer), strict=True))


def input_names(config: ModelConfig) -> list[str]:
    """The inputs of a model's graph, in their order."""
    return {
        "encoder": ["tokens", "valid"],
        "decoder": ["tokens", *(PAST + name for name in cached_shapes(config))],
        "encoder-decoder": ["source", "source_valid", "target"],
    }[config.kind]


def output_names(config: ModelConfig) -> list[str]:
    """The outputs of a model's graph, in their order."""
    return {
        "encoder": ["hidden"],
        "decoder": ["logits", *cached_shapes(config)],
        "encoder-decoder": ["logits"],
    }[config.kind]
