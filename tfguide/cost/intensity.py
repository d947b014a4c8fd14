"""Operations for each byte that a decoding step reads: the ratio decides whether memory or arithmetic is the limit."""

from __future__ import annotations

from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.flops import decode_flops
from tfguide.cost.memory import first_count, kv_bytes
from tfguide.cost.step import decode_bytes

_MOST = 1 << 40  # larger than every batch and every text: a search that finds nothing below it finds nothing at all


def decode_intensity(
    config: ModelConfig, context: int, batch: int = 1, weights: str = "bfloat16", kv: str = "bfloat16"
) -> float:
    """The operations of a decoding step for each byte of weights and cache that it reads.

    Raises ValueError for counts below 1, unknown types, and a model without decoding steps.
    """
    return decode_flops(config, context, batch) / decode_bytes(config, context, batch, weights, kv)


def intensity_ceiling(config: ModelConfig, context: int, kv: str = "bfloat16") -> float:
    """The limit of `decode_intensity` as the batch grows: the operations of a sequence over the bytes of its cache,
    which no other sequence shares. Raises as `decode_intensity`.

    >>> round(intensity_ceiling(ModelConfig.from_preset("llama-3-8b"), 393))
    295
    """
    return decode_flops(config, context) / kv_bytes(config, 1, context, kv)


def critical_batch(
    config: ModelConfig, chip: Chip | str, context: int, weights: str = "bfloat16", kv: str = "bfloat16"
) -> int | None:
    """The smallest batch with which arithmetic takes as long as reading; None if no batch is large enough.

    The function does not check whether the sequences fit into memory. Raises as `decode_intensity`.
    """
    wanted = _wanted(chip)
    if intensity_ceiling(config, context, kv) <= wanted:
        return None
    return first_count(lambda batch: decode_intensity(config, context, batch, weights, kv) >= wanted, _MOST)


def critical_context(config: ModelConfig, chip: Chip | str, kv: str = "bfloat16") -> int | None:
    """The longest context at which some batch is limited by arithmetic: 0 if none is, None if there is no longest.

    Raises as `decode_intensity`.
    """
    wanted = _wanted(chip)
    beyond = first_count(lambda context: intensity_ceiling(config, context, kv) <= wanted, _MOST)
    return None if beyond is None else beyond - 1


def _wanted(chip):
    """The operations for each byte from which on arithmetic limits. Raises ValueError for a chip without a rate."""
    chip = as_chip(chip)
    if chip.critical_intensity is None:
        raise ValueError(f"the rate of {chip.name}'s products is not published")
    return chip.critical_intensity
