"""Quantise rows to Q4_K: super-blocks of 256 numbers, with 6-bit scales and minima for each 32 of them.

A number of sub-block j is `d * scale[j] * q - d_min * minimum[j]`: q has 4 bits, scale and minimum have 6, and d and
d_min are float16, one of each for a super-block. That makes 144 bytes for 256 numbers, 4.5 bits for each.
Source: `block_q4_K` in ggml-common.h of ggml. The search for scales is this file's own.
"""

from __future__ import annotations

import numpy as np

SIZE, SUB, LEVELS, STEPS = 256, 32, 15, 63  # numbers, numbers of a sub-block, the largest q, the largest scale
_CHUNK = 512  # super-blocks at a time: what one pass reads stays in the processor's cache
# Shares of the range of a sub-block that the 15 steps span: a shorter span cuts the ends off and has finer steps.
_SPANS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)


def quantise_q4_k(rows: np.ndarray) -> np.ndarray:
    """Rows (..., in) of finite float32 numbers, in a multiple of 256, as blocks: uint8 (..., in / 256 * 144).

    The squared error of a super-block is at most that of the plain choice, in which the 15 steps span the range of a
    sub-block. There, with step s = range / 15 and minimum m of a sub-block, and s', m' the largest ones of the
    super-block, a number has an error of at most s / 2 + 15.5 s' / 126 + m' / 126, and what float16 rounds.
    """
    blocks = rows.reshape(-1, SIZE)
    packed = [_quantise(blocks[i : i + _CHUNK]) for i in range(0, len(blocks), _CHUNK)]
    return np.concatenate(packed).reshape(*rows.shape[:-1], rows.shape[-1] // SIZE * 144)


def _quantise(blocks):
    x = np.ascontiguousarray(blocks, np.float32).reshape(-1, SIZE // SUB, SUB)  # (N, 8, 32)
    plain = _with_6_bits(*_plain(x))
    best = _better(x, plain, _refined(x, *_with_6_bits(*_searched(x))))
    return _pack(*best, _levels(x, *_steps(*best)))


def _plain(x):
    """Step and minimum (N, 8) that span each sub-block: x is near step * q - minimum, and both are at least 0."""
    minimum = np.maximum(-x.min(axis=-1), 0.0)
    return (np.maximum(x.max(axis=-1), 0.0) + minimum) / LEVELS, minimum


def _searched(x):
    """Step and minimum (N, 8) of the least squared error among several spans, each improved by least squares."""
    step, minimum = _plain(x)
    least = _error(x, step, minimum)
    widest, lowest = step, minimum
    for span in _SPANS:
        for shift in (0.0, 0.5, 1.0) if span < 1.0 else (0.5,):  # which end is cut off, or both
            candidate = widest * span, lowest - shift * (1.0 - span) * LEVELS * widest
            candidate = _fitted(x, candidate[0], np.maximum(candidate[1], 0.0))
            error = _error(x, *candidate)
            better = error < least
            least = np.where(better, error, least)
            step, minimum = np.where(better, candidate[0], step), np.where(better, candidate[1], minimum)
    return step, minimum


def _fitted(x, step, minimum):
    """The step and the minimum of least squared error for the levels that the given ones lead to."""
    q = _levels(x, step, minimum)
    n, mean_q, mean_x = SUB, q.mean(axis=-1), x.mean(axis=-1)
    spread = (q * q).sum(axis=-1) - n * mean_q**2
    product = np.einsum("nbi,nbi->nb", q, x)
    fitted = (product - n * mean_q * mean_x) / np.where(spread > 0.0, spread, 1.0)
    fitted_minimum = fitted * mean_q - mean_x
    # A minimum below 0 does not exist: without one, the line goes through 0.
    through_0 = product / np.maximum((q * q).sum(axis=-1), 1.0)
    negative = fitted_minimum < 0.0
    fitted, fitted_minimum = np.where(negative, through_0, fitted), np.where(negative, 0.0, fitted_minimum)
    good = (spread > 0.0) & (fitted > 0.0)
    return np.where(good, fitted, step), np.where(good, fitted_minimum, minimum)


def _with_6_bits(step, minimum):
    """Super-blocks (d, d_min, scale, minimum) whose products are nearest to steps and minima (N, 8)."""
    d, d_min = _float16(step.max(axis=-1) / STEPS), _float16(minimum.max(axis=-1) / STEPS)
    return d, d_min, _in_6_bits(step, d), _in_6_bits(minimum, d_min)


def _refined(x, d, d_min, scale, minimum):
    """The same super-blocks, with a neighbour for each scale and minimum where that lowers the error, and d fitted."""
    least, best = None, None
    for by in (0, -1, 1):
        for by_minimum in (0, -1, 1):
            moved = np.clip(scale + by, 0, STEPS), np.clip(minimum + by_minimum, 0, STEPS)
            error = _error(x, *_steps(d, d_min, *moved))
            if best is None:
                least, best = error, moved
            else:
                better = error < least
                least = np.where(better, error, least)
                best = tuple(np.where(better, new, old) for new, old in zip(moved, best, strict=True))
    fitted = _fit_super_block(x, d, d_min, *best)
    return _better(x, (d, d_min, *best), (*fitted, *best))


def _fit_super_block(x, d, d_min, scale, minimum):
    """d and d_min of least squared error for the levels of the given ones: two equations for each super-block."""
    q = _levels(x, *_steps(d, d_min, scale, minimum))
    a, b = scale[..., None] * q, np.broadcast_to(minimum[..., None], q.shape)  # x is near d a - d_min b
    aa, ab, bb, ax, bx = (np.einsum("nbi,nbi->n", *pair) for pair in ((a, a), (a, b), (b, b), (a, x), (b, x)))
    determinant = aa * bb - ab * ab
    solvable = determinant > 1e-6 * aa * bb
    safe = np.where(solvable, determinant, 1.0)
    fitted, fitted_min = (ax * bb - ab * bx) / safe, (ax * ab - aa * bx) / safe
    good = solvable & (fitted > 0.0) & (fitted_min >= 0.0)
    return _float16(np.where(good, fitted, d)), _float16(np.where(good, fitted_min, d_min))


def _better(x, a, b):
    """For each super-block the one of two that has the smaller error."""
    second = _error(x, *_steps(*b)).sum(axis=-1) < _error(x, *_steps(*a)).sum(axis=-1)
    return tuple(np.where(second.reshape(-1, *[1] * (u.ndim - 1)), v, u) for u, v in zip(a, b, strict=True))


def _steps(d, d_min, scale, minimum):
    return d[:, None] * scale, d_min[:, None] * minimum


def _levels(x, step, minimum):
    """q (N, 8, 32), whole numbers from 0 to 15 as float32."""
    inverse = 1.0 / np.where(step > 0.0, step, np.float32(np.inf))
    return np.clip(np.rint((x + minimum[..., None]) * inverse[..., None]), 0.0, LEVELS)


def _error(x, step, minimum):
    """The squared error of each sub-block (N, 8)."""
    difference = _levels(x, step, minimum) * step[..., None] - minimum[..., None] - x
    return np.einsum("nbi,nbi->nb", difference, difference)


def _float16(values):
    return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def _in_6_bits(values, unit):
    inverse = 1.0 / np.where(unit > 0.0, unit, np.float32(np.inf))
    return np.clip(np.rint(values * inverse[:, None]), 0.0, STEPS).astype(np.float32)


def _pack(d, d_min, scale, minimum, q):
    """The 144 bytes of each super-block: d, d_min, 12 bytes of 6-bit numbers, and two sub-blocks in each 32 bytes."""
    scale, minimum = scale.astype(np.uint8), minimum.astype(np.uint8)
    first, last = slice(0, 4), slice(4, 8)  # the last four keep their two upper bits in the bytes of the first four
    six_bits = np.concatenate(
        [
            scale[:, first] | scale[:, last] >> 4 << 6,
            minimum[:, first] | minimum[:, last] >> 4 << 6,
            scale[:, last] & 15 | (minimum[:, last] & 15) << 4,
        ],
        axis=1,
    )
    pairs = q.astype(np.uint8).reshape(-1, 4, 2, SUB)
    nibbles = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, SIZE // 2)
    halves = np.stack([d, d_min], axis=1).astype("<f2").view(np.uint8)
    return np.concatenate([halves, six_bits, nibbles], axis=1)
