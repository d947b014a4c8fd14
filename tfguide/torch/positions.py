"""Sinusoidal, rotary, ALiBi and relative positions (learned positions are a table in the embeddings)."""

from __future__ import annotations

import torch
from torch import Tensor

from tfguide.frequencies import (
    alibi_slopes,
    dynamic_exponents,
    relative_bucket_table,
    rotary_frequencies,
    sinusoidal_frequencies,
)
from tfguide.scalings import LongRopeScaling, Scaling


def sinusoidal_positions(positions: Tensor, d_model: int) -> Tensor:
    """The sinusoidal encoding of `positions` (B, T): (B, T, D), added to the embeddings.

    Feature 2i is `sin(position * 10000 ** (-2i / D))`, feature 2i + 1 its cosine.
    Raises ValueError for an odd D. Source: Vaswani et al. 2017, section 3.5.
    """
    angles = _angles(positions, sinusoidal_frequencies(d_model))  # (B, T, D / 2)
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(-2).float()


def rotary_angles(positions: Tensor, frequencies: Tensor, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """The cosines and sines by which `rotate` turns the heads at `positions` (B, T): two tensors (B, T, d / 2).

    frequencies: (d / 2,) or (B, T, d / 2). factor: multiplies both, see `attention_factor` of `tfguide.frequencies`.
    """
    angles = _angles(positions, frequencies)
    return (factor * torch.cos(angles)).float(), (factor * torch.sin(angles)).float()


def text_lengths(positions: Tensor, valid: Tensor | None = None) -> Tensor:
    """The length of each row's text, (B or 1, 1): its last position that is not padding is the length minus 1.

    positions: (B or 1, T); valid: (B, T), True at real tokens.
    """
    ends = positions + 1
    return (ends if valid is None else ends * valid).amax(dim=1, keepdim=True)


def frequencies_of(lengths: Tensor, d_rotary: int, theta: float, scaling: Scaling) -> Tensor:
    """`rotary_frequencies` for texts of `lengths` (B, T), in a scaling that depends on it: (B, T, d / 2), float64."""
    trained, lengths = scaling.original_max_positions, lengths[..., None]  # (B, T, 1)

    def tensor(numbers):
        return torch.as_tensor(numbers, dtype=torch.float64, device=lengths.device)

    short, long = (tensor(rotary_frequencies(d_rotary, theta, scaling, n)) for n in (trained, trained + 1))
    if isinstance(scaling, LongRopeScaling):
        return torch.where(lengths > trained, long, short)
    growth = scaling.factor * (lengths.clamp(min=trained).double() / trained) - (scaling.factor - 1.0)
    return short * growth ** tensor(dynamic_exponents(d_rotary))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of features of the heads `x` (B, T, H, d) by its angle; (B, T, H, d).

    The pairs are (i, i + d/2), as in published Llama weights; the paper's (2i, 2i + 1) is the same up to the
    order of the features. cos, sin: (B, T, d / 2); with fewer angles, r / 2, only the first r features are turned.
    Source: Su et al. 2021, equation 34.
    """
    cos, sin = cos[:, :, None, :], sin[:, :, None, :]  # the same for every head
    half = cos.shape[-1]
    first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1).to(x.dtype)


def alibi_bias(query_positions: Tensor, key_positions: Tensor, n_heads: int) -> Tensor:
    """ALiBi: a key at `distance` loses `slope * distance` of its score, with a slope for each head; bias (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S). Source: Press et al. 2022, section 3.
    """
    distance = (query_positions[:, :, None] - key_positions[:, None, :]).abs()  # (B, T, S)
    slopes = torch.as_tensor(alibi_slopes(n_heads), dtype=torch.float32, device=distance.device)
    return -slopes[None, :, None, None] * distance[:, None]


def relative_bias(
    query_positions: Tensor,
    key_positions: Tensor,
    table: Tensor,
    bidirectional: bool,
    max_distance: int = 128,
) -> Tensor:
    """T5's learned bias by bucket of distance: (B, H, T, S).

    query_positions: (B, T), key_positions: (B, S), table: (buckets, H). Source: Raffel et al. 2020, section 2.1.
    """
    buckets = relative_bucket_table(bidirectional, len(table), max_distance)
    buckets = torch.as_tensor(buckets, device=table.device)
    relative = key_positions[:, None, :] - query_positions[:, :, None]  # (B, T, S)
    relative = relative.clamp(-max_distance, max_distance) + max_distance
    return torch.einsum("btsh->bhts", table[buckets[relative]])


def _angles(positions, frequencies):
    # In float64: at position 10,000 a float32 angle is wrong in the third decimal.
    frequencies = torch.as_tensor(frequencies, dtype=torch.float64, device=positions.device)
    return positions[..., None].double() * frequencies
