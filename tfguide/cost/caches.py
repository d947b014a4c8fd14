"""What a token takes in the caches of models with different kinds of attention, for tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfguide.config import ModelConfig
from tfguide.cost.memory import kv_bytes, kv_bytes_per_token

#: One model of each kind, most of them of about the same size.
MODELS = ("llama-2-7b", "llama-3-8b", "palm-8b", "gemma-3-12b", "gpt-oss-20b", "deepseek-v3")
CONTEXTS = (1024, 8192, 32768, 131072)  # of a table
CURVE = tuple(2**i for i in range(8, 18))  # of a figure: a bend lies at a power of 2


@dataclass(frozen=True)
class CacheRow:
    """The cache of one model.

    kind: see `attention_kind`; layers: how many; token_bytes: what a new token adds while no window is full;
    by_context: the mean bytes of a token after so many, which a full window lowers.
    """

    name: str
    kind: str
    layers: int
    token_bytes: float
    by_context: dict[int, float]

    def gigabytes(self, context: int) -> float:
        """The cache of one sequence of so many tokens, one of the contexts of the row."""
        return self.by_context[context] * context / 1e9


def attention_kind(config: ModelConfig) -> str:
    """What the heads of a model share, and how many layers see a window only.

    >>> attention_kind(ModelConfig.from_preset("gemma-3-12b"))
    'grouped, 8 of 16; window of 1,024 in 40 of 48 layers'
    """
    heads, groups = config.n_heads, config.n_kv_heads
    if config.latent is not None:
        kind = f"latent, {config.latent.kv_rank} + {config.latent.d_rope} numbers"
    elif groups == heads:
        kind = f"multi-head, {heads}"
    else:
        kind = f"multi-query, 1 of {heads}" if groups == 1 else f"grouped, {groups} of {heads}"
    if not config.n_sliding_layers:
        return kind
    return f"{kind}; window of {config.sliding_window:,} in {config.n_sliding_layers} of {config.n_layers} layers"


def cache_row(name: str, config: ModelConfig, contexts: Sequence[int] = CONTEXTS, dtype: str = "bfloat16") -> CacheRow:
    """The cache of one configuration. Raises ValueError for a context below 1, and for an unknown type."""
    means = {context: kv_bytes(config, 1, context, dtype) / context for context in contexts}
    return CacheRow(name, attention_kind(config), config.n_layers, kv_bytes_per_token(config, dtype), means)


def cache_rows(
    names: Iterable[str] = MODELS, contexts: Sequence[int] = CONTEXTS, dtype: str = "bfloat16"
) -> list[CacheRow]:
    """The caches of presets, in the order of their names."""
    return [cache_row(name, ModelConfig.from_preset(name), contexts, dtype) for name in names]
