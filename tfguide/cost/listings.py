"""The models and the chips that are known by name, as plain values and as tables of text."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfguide.config import ModelConfig
from tfguide.cost.chips import CHIPS
from tfguide.cost.memory import kv_bytes_per_token
from tfguide.cost.parameters import active_parameters, parameters
from tfguide.presets import PRESETS


def models_report() -> dict[str, dict[str, Any]]:
    """Every preset by name: its kind, parameters, bytes of the cache of a token in bfloat16, positions."""
    rows = {}
    for name in PRESETS:
        config = ModelConfig.from_preset(name)
        rows[name] = {
            "kind": config.kind,
            "parameters": parameters(config),
            "active_parameters": active_parameters(config),
            "kv_bytes_per_token_bf16": kv_bytes_per_token(config),
            "max_positions": config.max_positions,
        }
    return rows


def models_table(report: dict[str, dict[str, Any]]) -> str:
    """What `models_report` returned, one line for each model."""
    lines = [f"{'model':<18}{'kind':<17}{'parameters':>11}{'active':>9}{'KV/token':>11}{'positions':>11}"]
    for name, row in report.items():
        active = row["active_parameters"]
        lines.append(
            f"{name:<18}{row['kind']:<17}{short_count(row['parameters']):>11}"
            f"{short_count(active) if active != row['parameters'] else '':>9}"
            f"{row['kv_bytes_per_token_bf16'] / 1024:>7.1f} KiB{row['max_positions'] or '':>11}"
        )
    return "\n".join(lines)


def chips_report() -> dict[str, dict[str, Any]]:
    """Every chip by name, with the fields of `Chip`."""
    return {name: dataclasses.asdict(chip) for name, chip in CHIPS.items()}


def chips_table() -> str:
    """Every chip, one line each; a dash where there is no number, or none is published."""
    heads = ("bf16", "fp32", "fp8", "int8", "fp4")
    columns = "".join(f"{head:>9}" for head in heads)
    lines = [f"{'TFLOP/s:':<10}{columns}{'memory GB':>11}{'GB/s':>7}{'links':>7}{'FLOP/byte':>11}  source"]
    for name, chip in CHIPS.items():
        rates = (chip.peak_flops, chip.float32_flops, chip.float8_flops, chip.int8_flops, chip.float4_flops)
        lines.append(
            f"{name:<10}{''.join(_short(rate, 1e12, 9, 1) for rate in rates)}{chip.hbm_bytes / 1e9:>11.1f}"
            f"{chip.hbm_bandwidth / 1e9:>7,.0f}{_short(chip.link_bandwidth, 1e9, 7)}"
            f"{_short(chip.critical_intensity, 1, 11)}  {chip.source}"
        )
    return "\n".join(lines)


def _short(number, unit, width, digits=0):
    return f"{'-':>{width}}" if number is None else f"{number / unit:>{width},.{digits}f}"


def short_count(n: int) -> str:
    """A number of parameters in three digits.

    >>> short_count(8_030_261_248)
    '8.03B'
    """
    if n < 1e6:
        return str(n)
    for unit, letter in ((1e6, "M"), (1e9, "B")):
        number = three_digits(n / unit)
        if float(number) < 1000:  # 999,885,952 is 1B, since in three digits it is 1000M
            return f"{number}{letter}"
    return f"{three_digits(n / 1e12)}T"


def three_digits(number: float) -> str:
    """A number rounded to three digits, without an exponent up to a million.

    >>> three_digits(1342.1), three_digits(0.05)
    ('1340', '0.05')
    """
    return f"{float(f'{number:.3g}'):g}"
