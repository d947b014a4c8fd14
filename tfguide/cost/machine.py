"""One measured machine instead of a chip's data sheet, and the times that follow from the measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tfguide.checks.values import check_count, check_number, make_plain
from tfguide.config import ModelConfig
from tfguide.cost.flops import prefill_flops_by_term
from tfguide.cost.memory import cache_dtype
from tfguide.cost.step import decode_bytes
from tfguide.dtypes import dtype_bytes


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of `tfguide calibrate` for one framework and one type of weights, without a model of the benchmark.

    read_bytes_per_second: weights in a product with one row; memory_bytes_per_second: a plain read of the memory at the
    same time, or None. product_flops, attention_flops: operations a second by the number of rows or positions.
    step_overhead_s, layer_overhead_s: the time of a decoding step besides reading, once and for each layer;
    prompt_overhead_s, prompt_layer_overhead_s: the same for a prompt; feature_s: seconds for each feature of each token
    between two products, in norms, gates, rotations, sums and copies, by the number of tokens.
    Raises ValueError for a number that is not above 0, or for an overhead below 0.
    """

    framework: str
    dtype: str
    read_bytes_per_second: float
    product_flops: Mapping[int, float]
    attention_flops: Mapping[int, float]
    step_overhead_s: float
    layer_overhead_s: float
    prompt_overhead_s: float
    prompt_layer_overhead_s: float
    feature_s: Mapping[int, float]
    memory_bytes_per_second: float | None = None

    def __post_init__(self):
        make_plain(self)
        check_number("read_bytes_per_second", self.read_bytes_per_second, above=0.0)
        if self.memory_bytes_per_second is not None:
            check_number("memory_bytes_per_second", self.memory_bytes_per_second, above=0.0)
        for name in ("product_flops", "attention_flops", "feature_s"):
            rates = {int(rows): rate for rows, rate in getattr(self, name).items()}  # JSON keys are strings
            if not rows_are_sizes(rates):
                raise ValueError(f"{name} must have at least one size, got {dict(getattr(self, name))}")
            for rate in rates.values():
                check_number(name, rate, above=None if name == "feature_s" else 0.0)
                if rate < 0:
                    raise ValueError(f"{name} must be at least 0, got {rate}")
            object.__setattr__(self, name, rates)
        for name in ("step_overhead_s", "layer_overhead_s", "prompt_overhead_s", "prompt_layer_overhead_s"):
            check_number(name, getattr(self, name))
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def decode_seconds(self, config: ModelConfig, context: int, batch: int = 1) -> float:
        """The seconds of one decoding step, which reads all weights and the cache, with an overhead for every layer.

        Not counted: arithmetic, which overlaps with reading in a step of few rows.
        """
        context, batch = check_count("context", context), check_count("batch", batch)
        n_bytes = decode_bytes(config, context, batch, self.dtype, cache_dtype(self.dtype))
        overhead = self.step_overhead_s + config.n_layers * self.layer_overhead_s
        return n_bytes / self.read_bytes_per_second + overhead

    def prefill_seconds(self, config: ModelConfig, tokens: int) -> float:
        """The seconds of a prompt: products and attention at their measured rates, the work between them, and the head.

        Not counted: the different rates of products of other widths than the calibrated ones.
        """
        return sum(self.prefill_parts(config, tokens).values())

    def prefill_parts(self, config: ModelConfig, tokens: int) -> dict[str, float]:
        """The seconds of "products", "attention", "between" and "head"."""
        tokens = check_count("tokens", tokens)
        terms = prefill_flops_by_term(config, tokens)
        features = features_between(config) * tokens
        head = config.d_model * config.vocab_size * dtype_bytes(self.dtype)
        return {
            "products": (terms["projections"] + terms["feed_forward"]) / rate_at(self.product_flops, tokens),
            "attention": terms["attention"] / rate_at(self.attention_flops, tokens),
            "between": self.prompt_overhead_s
            + config.n_layers * (self.prompt_layer_overhead_s + features * rate_at(self.feature_s, tokens)),
            "head": head / self.read_bytes_per_second,
        }

    def when_memory_reads(self, bytes_per_second: float) -> Measured:
        """The same machine with another memory speed, for example because other machines share the memory."""
        if self.memory_bytes_per_second is None:
            return self
        faster = bytes_per_second / self.memory_bytes_per_second
        read = self.read_bytes_per_second * faster
        return replace(self, read_bytes_per_second=read, memory_bytes_per_second=bytes_per_second)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def features_between(config: ModelConfig) -> int:
    """The features of one token that are read and written between the products of one layer.

    Two norms and two sums over D, the rotation of queries and keys, the copy of keys and values, gate and up over F.
    """
    heads = (config.n_heads + 2 * config.n_kv_heads) * config.d_head
    return 4 * config.d_model + heads + (2 if config.gated else 1) * config.d_ff


def rate_at(rates: Mapping[int, float], size: int) -> float:
    """The rate at a size, interpolated linearly on logarithmic scales; outside the measured sizes the nearest rate.

    >>> round(rate_at({100: 10.0, 400: 40.0}, 200), 6)
    20.0
    """
    sizes = sorted(rates)
    if size <= sizes[0]:
        return rates[sizes[0]]
    if size >= sizes[-1]:
        return rates[sizes[-1]]
    above = next(s for s in sizes if s >= size)
    below = sizes[sizes.index(above) - 1]
    part = math.log(size / below) / math.log(above / below)
    if not rates[below] * rates[above]:
        return rates[below] * (1 - part) + rates[above] * part
    return rates[below] * (rates[above] / rates[below]) ** part


def rows_are_sizes(rates: Mapping[int, float]) -> bool:
    """Whether there is at least one size, and each is a count."""
    return bool(rates) and all(size >= 1 for size in rates)
