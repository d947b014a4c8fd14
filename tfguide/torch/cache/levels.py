"""Numbers as 16 levels, two to a byte: what a 4-bit cache stores."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.generation.blockwise import group_sizes


def to_levels(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Groups of float16 numbers along an axis as levels 0 to 15, uint8, with the step and the minimum of each group.

    Level l stands for `minimum + step l`; the step is a fifteenth of the group's range, rounded to float16. The error
    of a number is at most half the step, except that a range below 1e-6 may be lost. A group with NaN becomes NaN.
    """
    wide = x.float()
    minimum = wide.amin(dim, keepdim=True)
    step = ((wide.amax(dim, keepdim=True) - minimum) / 15).half()
    levels = torch.round((wide - minimum) / step.float().masked_fill(step == 0, 1)).clamp(0, 15).nan_to_num()
    return levels.to(torch.uint8), step.squeeze(dim), minimum.half().squeeze(dim)


def from_levels(levels: Tensor, step: Tensor, minimum: Tensor, dim: int) -> Tensor:
    """The numbers, float32, for which levels stand: the inverse of `to_levels`, but for its rounding."""
    return levels.float().mul_(step.float().unsqueeze(dim)).add_(minimum.float().unsqueeze(dim))


def to_groups(x: Tensor) -> Tensor:
    """Vectors (..., d) in groups of at most 32 features, (..., groups, size); the last feature fills the last group."""
    n, size = group_sizes(x.shape[-1])
    if n * size > x.shape[-1]:
        x = torch.cat([x, x[..., -1:].expand(*x.shape[:-1], n * size - x.shape[-1])], dim=-1)
    return x.unflatten(-1, (n, size))


def pack(levels: Tensor) -> Tensor:
    """Levels (..., d), uint8, two to a byte: (..., d / 2), rounded up. Byte i holds features i and i + d / 2."""
    half = -(-levels.shape[-1] // 2)
    low, high = levels[..., :half], levels[..., half:]
    if high.shape[-1] < half:
        high = torch.nn.functional.pad(high, (0, 1))
    return low | (high << 4)


def unpack(packed: Tensor, d: int) -> Tensor:
    """The inverse of `pack`: levels (..., d), uint8."""
    return torch.cat([packed & 15, packed >> 4], dim=-1)[..., :d]
