"""What rotary positions go together with."""

from __future__ import annotations

from tfguide.checks.values import check_count
from tfguide.scalings import DynamicScaling, LongRopeScaling, Scaling, YarnScaling


def check_rotary(positions: str, name: str, d: int, d_rotary: int, theta: float, scaling: Scaling | None) -> None:
    """Raises ValueError for a rotation or a scaling that a head cannot have, TypeError for no integer.

    d: how many features of a head could be rotated; name: what that is called.
    """
    check_count("d_rotary", d_rotary)
    if positions != "rotary":
        if scaling is not None:
            raise ValueError(f"rope_scaling needs positions='rotary', got positions={positions!r}")
        if d_rotary != d:
            raise ValueError(f"d_rotary needs positions='rotary', got positions={positions!r}")
        return
    if d_rotary == d and d % 2:
        raise ValueError(f"positions='rotary' needs an even {name}, got {d}")
    if d_rotary % 2 or d_rotary > d:
        raise ValueError(f"d_rotary must be even and at most {name}={d}, got {d_rotary}")
    if isinstance(scaling, DynamicScaling) and d_rotary < 4:
        raise ValueError(f"DynamicScaling needs at least 4 rotated features, got {d_rotary}")
    if isinstance(scaling, YarnScaling) and theta <= 1.0:
        raise ValueError(f"YarnScaling needs rope_theta above 1, got {theta}")
    if isinstance(scaling, LongRopeScaling) and len(scaling.short_factors) != d_rotary // 2:
        raise ValueError(
            f"LongRopeScaling needs a factor for each of {d_rotary // 2} pairs of rotated features, "
            f"got {len(scaling.short_factors)}"
        )
