"""The known accelerators, read from one data file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tfguide.checks.values import check_number, make_plain, nearest


@dataclass(frozen=True, kw_only=True)
class Chip:
    """The peak rates and the memory of one chip.

    peak_flops: operations a second of a dense bfloat16 product (vendors' figures for 2:4-sparse matrices are twice
    that); hbm_bytes: memory; hbm_bandwidth: bytes a second from memory; link_bandwidth: bytes a second to other chips.
    Not counted: faster 8-bit products, since this package multiplies 8-bit weights in bfloat16, and the network of a
    rack between groups of linked chips. Raises ValueError for a number that is not above 0.
    """

    name: str
    peak_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    source: str = ""

    def __post_init__(self):
        make_plain(self)
        for name in ("peak_flops", "hbm_bytes", "hbm_bandwidth", "link_bandwidth"):
            check_number(name, getattr(self, name), above=0.0)

    @property
    def critical_intensity(self) -> float:
        """The operations for each byte read at which arithmetic takes as long as reading."""
        return self.peak_flops / self.hbm_bandwidth


CHIPS = {
    name: Chip(name=name, **fields)
    for name, fields in json.loads((Path(__file__).parent / "chips.json").read_text()).items()
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
