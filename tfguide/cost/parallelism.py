"""The ways to divide the work of a step of decoding among chips: what each keeps, reads and sends.

Times are those of `step`: sums of arithmetic, reading and sending by data sheets, without the latency of a message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.memory import weight_bytes
from tfguide.cost.parameters import expert_parameters, experts_read
from tfguide.cost.step import ACTIVATION_BYTES, parameters_read, step
from tfguide.dtypes import dtype_bytes


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way, for a batch on all chips together.

    weight_bytes, cache_bytes: on one chip; sent_bytes: by one chip for one layer, on average; step_s: from one token
    of a text to its next; fits: whether weights and cache leave a tenth of the memory free.
    """

    name: str
    batch: int
    weight_bytes: float
    cache_bytes: float
    sent_bytes: float
    step_s: float
    fits: bool

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all texts in a second."""
        return self.batch / self.step_s


def ways(
    config: ModelConfig, chip: Chip | str, chips: int, batch: int, context: int, dtype: str = "bfloat16"
) -> list[Way]:
    """Every way for a step of `batch` sequences of `context` tokens; that by experts where the model has some.

    dtype: of weights and cache. A tensor is divided in one dimension, and weights are gathered from all chips. By
    experts, each chip has its own sequences and its own experts, and the rest of the weights whole; every token is
    sent to its experts' chips and back, at most once for each expert. In a pipeline each chip has its own layers, and
    as many groups of sequences as chips are under way, one at each.
    Raises as `step`.
    """
    chip, types = as_chip(chip), {"weights": dtype, "kv": dtype}
    link = chip.link_bandwidth or math.inf  # a single chip may have none, and sends nothing
    token = ACTIVATION_BYTES * config.d_model
    own = step(config, chip, 1, math.ceil(batch / chips), context, **types)  # a chip with its share of the sequences

    def way(name, weights, sent, seconds, cache=own.kv_bytes_per_chip):
        fits = weights + cache <= 0.9 * chip.hbm_bytes
        sizes = dict(weight_bytes=weights, cache_bytes=cache, sent_bytes=sent / config.n_layers)
        return Way(name=name, batch=batch, step_s=seconds, fits=fits, **sizes)

    def laid_out(name, layout, attention):
        one = step(config, chip, chips, batch, context, layout=layout, attention=attention, **types)
        sent = one.communication_s * link if chips > 1 else 0.0
        return way(name, one.weight_bytes_per_chip, sent, one.serial_s, one.kv_bytes_per_chip)

    found = [
        way("sequences", own.weight_bytes_per_chip, 0.0, own.serial_s),
        laid_out("tensors, cache by heads", "1d-ws", "head"),
        laid_out("tensors, cache by sequences", "1d-ws", "batch"),
    ]
    if config.experts is not None:
        elsewhere = 1 - 1 / chips  # the part of the experts that a chip does not have
        routed = expert_parameters(config) * dtype_bytes(dtype)  # one expert in all layers
        kept = weight_bytes(config, dtype) - elsewhere * config.experts.n_experts * routed
        read = parameters_read(config, batch) * dtype_bytes(dtype) - elsewhere * experts_read(config, batch) * routed
        n_layers = sum(map(config.has_experts, range(config.n_layers)))
        sent = 2 * n_layers * own.batch * config.experts.per_token * token * elsewhere
        seconds = (own.compute_s or 0.0) + own.kv_s + read / chip.hbm_bandwidth + sent / link
        found.append(way("experts", kept, sent, seconds))
    passed = own.batch * token  # from one chip of a pipeline to the next
    seconds = own.serial_s + (chips - 1) * passed / link
    sent = chips * passed if chips > 1 else 0.0  # of every group of sequences
    return [
        *found,
        laid_out("weights gathered", "wg-xyz", "batch"),
        way("layers, a pipeline", own.weight_bytes_per_chip / chips, sent, seconds),
    ]
