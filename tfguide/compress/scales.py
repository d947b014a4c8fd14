"""The search for the scale of a group of 4-bit weights that gives the least weighted square error.

Each candidate is a scale from which the levels of the weights follow; for these levels the best scale has a closed form
(least squares), and with it the levels are chosen again. The best of all candidates is kept.
"""

from __future__ import annotations

import numpy as np

from tfguide.compress.rounding import inverse, nearest

TOP = 15  # the last of 16 levels
WIDEST = 9.0  # the largest magnitude of a symmetric group / its scale

# Candidates: the scales that the largest magnitude of a symmetric group is.
_REACH = (8.0, 7.7, 8.3, 7.4, 8.6, 7.1, 8.9, 6.7)
# Candidates: the parts of an asymmetric group's range that its first and its last level leave out; below 0, how much
# wider the levels are: weights that come from 16 levels of which they do not use the first or the last.
_TRIMS = (
    (0.0, 0.0), (0.0, 1 / 15), (1 / 15, 0.0), (0.03, 0.03), (0.06, 0.06), (0.1, 0.1), (0.0, -1 / 14),
    (-1 / 14, 0.0), (-1 / 28, -1 / 28),
)  # fmt: skip


def search_symmetric(x: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The float16 scale (n,) of groups (g, n): level l stands for `scale (l - 8)`; importance: (g, 1), above 0.

    The scale has the sign that maps the largest magnitude to level 0. No magnitude exceeds WIDEST scales.
    """
    at = np.abs(x).argmax(axis=0)
    extreme = x[at, np.arange(x.shape[1])]
    best, least = _float16(extreme / np.float32(-8)), np.full(x.shape[1], np.inf, np.float32)
    for reach in _REACH:
        scale = extreme / np.float32(-reach)
        level = nearest(x, scale, -8 * scale, TOP) - 8
        weighted = importance * level
        square = (weighted * level).sum(axis=0)
        scale = _float16(np.divide((weighted * x).sum(axis=0), square, out=scale, where=square > 0))
        error = x - scale * (nearest(x, scale, -8 * scale, TOP) - 8)
        loss = (importance * error * error).sum(axis=0)
        better = (loss < least) & (np.abs(extreme) <= WIDEST * np.abs(scale))
        best, least = np.where(better, scale, best), np.where(better, loss, least)
    return best


class ByteScales:
    """Steps and minima of asymmetric groups: each is a byte times a number of its output; no minimum is positive.

    weight: (in, out), whose groups are `group_size` inputs of an output. `unit`: float16 (2, out), the largest step and
    the largest magnitude of a minimum of each output, rounded up, so that the levels can cover every group. Byte b
    stands for the step `unit[0] b / 255` and for the minimum `-unit[1] b / 255`.
    """

    def __init__(self, weight: np.ndarray, group_size: int):
        groups = np.asarray(weight, np.float32).reshape(-1, group_size, weight.shape[1])
        low, high = np.minimum(groups.min(axis=1), 0), groups.max(axis=1)  # (groups, out)
        depth = _rounded_up(-low.min(axis=0))
        span = (high - low).max(axis=0) + depth.astype(np.float32) / 255  # a minimum is rounded down by up to a byte
        self.unit = np.stack([_rounded_up(span / TOP), depth])
        self._parts = self.unit.astype(np.float32) / np.float32(255)

    def search(self, x: np.ndarray, importance: np.ndarray, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """The step and the minimum (n,) of groups (g, n) of these outputs: level l stands for `minimum + step l`.

        importance: (g, 1), above 0. No number of `weight` is more than a step outside the levels of its group.
        """
        parts = self._parts[:, columns]
        low, high = x.min(axis=0), x.max(axis=0)
        best = self._covering(low, high, parts)
        least = _loss(x, importance, *best)
        for first, last in _TRIMS:
            step, minimum = (high - low) * np.float32((1 - first - last) / TOP), low + (high - low) * np.float32(first)
            for _ in range(2):
                step, minimum = _least_squares(x, importance, nearest(x, step, minimum, TOP), step, minimum)
            step, minimum = parts[0] * _count(step, parts[0]), -parts[1] * _count(-minimum, parts[1])
            loss = _loss(x, importance, step, minimum)
            better = (loss < least) & (np.maximum(minimum - low, high - minimum - TOP * step) <= step)
            best = np.where(better, step, best[0]), np.where(better, minimum, best[1])
            least = np.where(better, loss, least)
        return best

    def bytes_of(self, step: np.ndarray, minimum: np.ndarray) -> np.ndarray:
        """Steps and minima (groups, out) that `search` returned, as their bytes: uint8 (out, groups, 2)."""
        found = np.stack([_count(step, self._parts[0]), _count(-minimum, self._parts[1])], axis=-1)
        return np.ascontiguousarray(found.astype(np.uint8).swapaxes(0, 1))

    def _covering(self, low, high, parts):
        """The smallest step and the largest minimum with which the levels reach from the lowest to the highest."""
        minimum = -parts[1] * _count(-low, parts[1], np.ceil)
        return parts[0] * _count((high - minimum) / TOP, parts[0], np.ceil), minimum


def _count(x, part, rounding=np.rint):
    """How many parts a number has, as a byte."""
    return np.clip(rounding(x * inverse(part)), 0, 255)


def _loss(x, importance, step, minimum):
    error = x - (minimum + step * nearest(x, step, minimum, TOP))
    return (importance * error * error).sum(axis=0)


def _least_squares(x, importance, level, step, minimum):
    """The step and the minimum of the least loss with these levels; those given where all levels of a group are one."""
    weighted = importance * level
    n, sums = importance.sum(), (weighted.sum(axis=0), (importance * x).sum(axis=0))
    square, product = (weighted * level).sum(axis=0), (weighted * x).sum(axis=0)
    determinant = n * square - sums[0] ** 2
    solvable = determinant > np.float32(1e-5) * n * square
    scale = np.divide(1, determinant, out=np.zeros_like(determinant), where=solvable)
    found = (n * product - sums[0] * sums[1]) * scale, (sums[1] * square - sums[0] * product) * scale
    return np.where(solvable, found[0], step), np.where(solvable, found[1], minimum)


def _float16(x):
    return x.astype(np.float16).astype(np.float32)


def _rounded_up(x):
    """The smallest float16 that is not below a number."""
    near = x.astype(np.float16)
    return np.where(near.astype(np.float32) < x, np.nextafter(near, np.float16(np.inf)), near)
