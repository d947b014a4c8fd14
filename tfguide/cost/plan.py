"""The cheapest way to serve a model: how many chips, in which layout."""

from __future__ import annotations

from dataclasses import dataclass

from tfguide.checks.values import check_count, check_number
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.listings import three_digits
from tfguide.cost.memory import ATTENTIONS
from tfguide.cost.step import Step, step
from tfguide.sharding.layouts import LAYOUTS

CHIP_COUNTS = tuple(2**i for i in range(11))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A number of chips and a layout that fit, with the time of a decoding step and of the prompt before it.

    prefill: None for a chip whose rate of products is not known: arithmetic limits a prompt.
    """

    chip: Chip
    decode: Step
    prefill: Step | None
    memory_bytes_per_chip: float

    @property
    def chips(self) -> int:
        """The number of chips."""
        return self.decode.chips


def plan(
    config: ModelConfig, chip: Chip | str, batch: int, context: int, latency_s: float | None = None,
    weights: str = "bfloat16", kv: str = "bfloat16", chips: int | None = None, reserve: float = 0.1,
    layout: str | None = None, attention: str | None = None, experts: str | None = None, products: str = "bfloat16",
) -> Plan:  # fmt: skip
    """The cheapest number of chips and layout for decoding: the fewest chip-seconds for a token.

    latency_s: the longest that a step may take, by `Step.serial_s`. chips: the only number to try; default: the powers
    of 2 up to 1024, or 1 without links. layout, attention: the only one to try; default: all. reserve: the part of
    each chip's memory that is kept for activations and programs. experts, products: types, as in `step`. Of plans that
    cost the same, the one with the fewest chips is chosen. Raises ValueError with the reason where there is no plan.
    """
    chip = as_chip(chip)
    check_number("reserve", reserve)
    if not 0 <= reserve < 1:
        raise ValueError(f"reserve must be at least 0 and below 1, got {reserve}")
    if latency_s is not None:
        check_number("latency_s", latency_s, above=0.0)
    chips = None if chips is None else check_count("chips", chips)
    batch, context = check_count("batch", batch), check_count("context", context)
    room = (1 - reserve) * chip.hbm_bytes
    every, fitting = [], []
    types = dict(weights=weights, kv=kv, experts=experts, products=products)
    for n in _counts(chip) if chips is None else (chips,):
        for how in _choices(layout, LAYOUTS, n):
            for division in _choices(attention, ATTENTIONS, n):
                one = step(config, chip, n, batch, context, layout=how, attention=division, **types)
                every.append(one)
                if one.weight_bytes_per_chip + one.kv_bytes_per_chip <= room:
                    fitting.append(one)
    if not fitting:
        least = min(every, key=_bytes)
        raise ValueError(
            f"{_gigabytes(_bytes(least))} on each of {least.chips} {chip.name} is the least that "
            f"weights and cache take, and {_gigabytes(room)} are free: "
            "fewer sequences, a shorter context or smaller numbers would fit"
        )
    in_time = [one for one in fitting if latency_s is None or one.serial_s <= latency_s]
    if not in_time:
        best = min(fitting, key=lambda one: one.serial_s)
        raise ValueError(
            f"no plan keeps a step within {three_digits(latency_s * 1e3)} ms: the fastest that fits takes "
            f"{three_digits(best.serial_s * 1e3)} ms, on {best.chips} {chip.name} in layout {best.layout}"
        )
    chosen = min(in_time, key=lambda one: (one.chips * one.serial_s, one.chips))
    prefill = None
    if chosen.chip_flops is not None:
        prefills = [
            step(config, chip, chosen.chips, batch, context, context, layout=how, attention=chosen.attention, **types)
            for how in _choices(layout, LAYOUTS, chosen.chips)
        ]
        prefill = min(prefills, key=lambda one: one.serial_s)
    return Plan(chip=chip, decode=chosen, prefill=prefill, memory_bytes_per_chip=_bytes(chosen))


def _counts(chip):
    return CHIP_COUNTS if chip.link_bandwidth is not None else CHIP_COUNTS[:1]


def _choices(asked, every, chips):
    if asked is not None:
        return (asked,)
    return every if chips > 1 else every[:1]  # one chip sends nothing, so that all layouts are the same


def _bytes(one):
    return one.weight_bytes_per_chip + one.kv_bytes_per_chip


def _gigabytes(n_bytes):
    return f"{three_digits(n_bytes / 1e9)} GB"
