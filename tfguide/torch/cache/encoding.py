"""How a cache of each type represents keys and values."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def encode(parts: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Parts (..., d) as a cache of this type stores them.

    int8: the integers of each part, from -127 to 127, then the scale (...) of each: the largest magnitude of a vector
    of d numbers / 127. float16: a number beyond 65504 becomes NaN and not infinity. An infinite key can give a score of
    minus infinity, which hides its position without an error; from NaN the logits become NaN, which no choice accepts.
    """
    if dtype != torch.int8:
        return tuple(part if part.dtype == dtype else _converted(part, dtype) for part in parts)
    parts = tuple(part.float() for part in parts)
    scales = tuple(part.abs().amax(dim=-1) / 127 for part in parts)
    integers = (
        torch.round(part / scale.masked_fill(scale == 0, 1)[..., None])
        for part, scale in zip(parts, scales, strict=True)
    )
    return (*(part.to(torch.int8) for part in integers), *scales)


def decode(stored: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What `encode` returned, or places of it, as parts (..., d) in the type of a model."""
    if stored[0].dtype != torch.int8:
        return tuple(part.to(dtype) for part in stored)
    n = len(stored) // 2
    return tuple(
        (integers * scale[..., None]).to(dtype) for integers, scale in zip(stored[:n], stored[n:], strict=True)
    )


def _converted(part, dtype):
    stored = part.to(dtype)
    return stored.masked_fill(stored.isinf(), math.nan) if dtype == torch.float16 else stored
