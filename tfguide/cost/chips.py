"""The known accelerators, read from one data file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tfguide.checks.values import check_number, make_plain, nearest
from tfguide.dtypes import dtype_name

_RATES = {
    "float32": "float32_flops", "bfloat16": "peak_flops", "float16": "peak_flops", "float8": "float8_flops",
    "int8": "int8_flops", "float4": "float4_flops",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Chip:
    """The peak rates and the memory of one chip.

    peak_flops: operations a second of a dense bfloat16 product with sums in float32 (vendors' figures for 2:4-sparse
    matrices are twice that); float32_flops, float8_flops, int8_flops, float4_flops: of products in other types;
    hbm_bytes: memory, whatever its kind; hbm_bandwidth: bytes a second from memory; link_bandwidth: bytes a second to
    other chips, both directions together. None: the vendor publishes no number, or the chip has no such products or
    links. source: the data sheet, with its address.
    Not counted: the network of a rack between groups of linked chips. Raises ValueError for a number that is not above
    0.
    """

    name: str
    peak_flops: float | None
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float | None
    float32_flops: float | None = None
    float8_flops: float | None = None
    int8_flops: float | None = None
    float4_flops: float | None = None
    source: str = ""

    def __post_init__(self):
        make_plain(self)
        for name in ("hbm_bytes", "hbm_bandwidth", "link_bandwidth", *dict.fromkeys(_RATES.values())):
            value = getattr(self, name)
            if value is not None or name in ("hbm_bytes", "hbm_bandwidth"):
                check_number(name, value, above=0.0)

    @property
    def rates(self) -> dict[str, float]:
        """The operations a second that are known, by the type of the product."""
        return {name: getattr(self, field) for name, field in _RATES.items() if getattr(self, field) is not None}

    def product_flops(self, dtype: str = "bfloat16") -> float | None:
        """The operations a second of products in a type; None where the vendor publishes no rate that serves.

        Numbers of 16 bits can be multiplied as float32, so that rate serves where theirs is not known. Raises
        ValueError for a smaller type without a rate.
        """
        name = dtype_name(dtype)
        if name in self.rates:
            return self.rates[name]
        if name in ("float32", "bfloat16", "float16"):
            return self.float32_flops
        known = f"known are {', '.join(self.rates)}" if self.rates else "none is known"
        raise ValueError(f"{self.name} has no rate of products in {name}: {known}")

    @property
    def critical_intensity(self) -> float | None:
        """The operations for each byte read at which arithmetic takes as long as reading; None without a rate."""
        rate = self.product_flops()
        return None if rate is None else rate / self.hbm_bandwidth


CHIPS = {
    name: Chip(name=name, **{"peak_flops": None, "link_bandwidth": None, **fields})
    for name, fields in json.loads((Path(__file__).parent / "chips.json").read_text(encoding="utf-8")).items()
}


def as_chip(chip: Chip | str) -> Chip:
    """The chip of a name, or a `Chip` unchanged. Raises TypeError, or ValueError with the nearest names."""
    if isinstance(chip, Chip):
        return chip
    if not isinstance(chip, str):
        raise TypeError(f"chip must be a name or a Chip, got {type(chip).__name__}")
    if chip not in CHIPS:
        raise ValueError(f"unknown chip {chip!r}{nearest(chip, CHIPS)}; known are {', '.join(CHIPS)}")
    return CHIPS[chip]
