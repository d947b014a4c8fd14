"""Which weights of a model are trained."""

from __future__ import annotations

from collections.abc import Sequence

from tfguide.checks.values import nearest
from tfguide.config import ModelConfig
from tfguide.weights import weight_table


def trained_names(config: ModelConfig, names: Sequence[str] | None = None) -> list[str]:
    """The canonical names of the weights to train, in the order of the forward pass.

    names: default: all. Raises ValueError for an encoder without labels, for no name, and for one that is no weight.
    """
    if config.kind == "encoder" and config.labels is None:
        raise ValueError("expected a model with logits to train, got kind='encoder' with labels=None")
    table = weight_table(config)
    if names is None:
        return list(table)
    for name in names:
        if name not in table:
            raise ValueError(f"{name!r} is no weight of the model{nearest(str(name), table)}")
    if not names:
        raise ValueError("names must hold at least one weight to train, got none")
    return [name for name in table if name in set(names)]
