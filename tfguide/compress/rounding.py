"""Second-order rounding: the error of a weight changes the targets of the weights that are rounded after it.

Let e be the error of the n weights of an output, and H the mean of x x^T over inputs x of the layer. The mean square
error of the output is e^T H e. With H = R R^T, R upper triangular,

    e^T H e = sum_i (R_ii r_i)^2,    r_i = e_i + sum_{j < i} (R_ji / R_ii) e_j.

So the weights are rounded in their order, each to the level nearest to `w_i + sum_{j < i} (R_ji / R_ii) e_j`, and r_i
is what that rounding leaves. This is GPTQ (Frantar et al. 2022); without the sum it is rounding to the nearest level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DAMPING = 0.01  # of the mean diagonal of H, added to its diagonal: Frantar et al. 2022, section 3.3
_COLUMNS = 2048  # outputs rounded at a time: their errors stay in the processor's cache


@dataclass(frozen=True)
class Metric:
    """H of a layer's inputs, as its factor R: diagonal, (in,), is R_ii; feedback, (in, in), is R_ji / R_ii at [j, i].

    Without feedback (None), the rows are rounded independently of each other.
    """

    diagonal: np.ndarray
    feedback: np.ndarray | None = None

    @classmethod
    def of(cls, gram: np.ndarray, damping: float = DAMPING) -> Metric:
        """The metric of `gram` = X^T X, (in, in), in any scale. A layer that saw only zeros weighs all inputs equally.

        Raises ValueError for NaN or infinity.
        """
        H = np.array(gram, np.float64)
        if not np.isfinite(H).all():
            raise ValueError("the inputs of a layer hold NaN or infinity: calibration needs finite activations")
        mean = np.diag(H).mean()
        H = H / mean if mean > 0 else H
        H[np.diag_indices(len(H))] += damping if mean > 0 else 1.0
        R = np.linalg.cholesky(H[::-1, ::-1])[::-1, ::-1]
        diagonal = np.diag(R)
        return cls(diagonal.astype(np.float32), (R / diagonal).astype(np.float32))

    @classmethod
    def uniform(cls, n_in: int) -> Metric:
        """The metric in which every input weighs 1 and none changes another: rounding to the nearest level."""
        return cls(np.ones(n_in, np.float32))

    def residuals(self, error: np.ndarray) -> np.ndarray:
        """R_ii r_i of errors (in, out), the same shape: the sum of their squares over the inputs is e^T H e."""
        error = np.asarray(error, np.float64)
        if self.feedback is None:
            return error * self.diagonal[:, None]
        return (np.asarray(self.feedback, np.float64).T @ error) * self.diagonal[:, None]


def mean_square_bound(metric: Metric, step: np.ndarray) -> np.ndarray:
    """The largest e^T H e of each output, (out,), if no weight is clipped: the sum over the inputs of (R_ii s_i / 2)^2.

    step: (in, out), of each weight. It holds since r_i is then at most half a step.
    """
    return ((metric.diagonal[:, None] * np.asarray(step, np.float64) / 2) ** 2).sum(axis=0)


Fit = Callable[[np.ndarray, np.ndarray, slice, slice], tuple[np.ndarray, np.ndarray]]


def round_weights(weight: np.ndarray, metric: Metric, fit: Fit, block: int, top: int) -> np.ndarray:
    """The level, from 0 to `top`, of each weight (in, out): uint8 of the same shape.

    fit: called for each block of inputs, in order, with its targets (block, n), the weights (block, 1) of their squared
    errors, and the slices of its inputs and outputs; it returns the step and the minimum (n,) of each output: level l
    stands for `minimum + step l`.
    """
    n_in, n_out = weight.shape
    levels = np.empty((n_in, n_out), np.uint8)
    for first in range(0, n_out, _COLUMNS):
        columns = slice(first, min(first + _COLUMNS, n_out))
        weights = np.ascontiguousarray(weight[:, columns], np.float32)
        errors = np.zeros_like(weights)
        for start in range(0, n_in, block):
            rows = slice(start, min(start + block, n_in))
            targets = weights[rows]
            if metric.feedback is not None and start:
                targets = targets + metric.feedback[:start, rows].T @ errors[:start]
            step, minimum = fit(targets, metric.diagonal[rows, None] ** 2, rows, columns)
            if metric.feedback is None:
                levels[rows, columns] = nearest(targets, step, minimum, top)
            else:
                feedback = metric.feedback[rows, rows]
                levels[rows, columns] = _in_turn(weights[rows], targets, feedback, step, minimum, top, errors[rows])
    return levels


def nearest(x: np.ndarray, step: np.ndarray, minimum: np.ndarray, top: int) -> np.ndarray:
    """The nearest of the levels 0 to `top` of numbers (..., n) with steps and minima (n,); a step of 0 has level 0."""
    return np.clip(np.rint((x - minimum) * inverse(step)), 0, top)


def inverse(step: np.ndarray) -> np.ndarray:
    """1 / step, and 0 for a step of 0."""
    return np.divide(1, step, out=np.zeros_like(step), where=step != 0)


def _in_turn(weights, targets, feedback, step, minimum, top, errors):
    """The levels of one block, whose rows change the targets of the rows after them; writes the errors of the rows."""
    levels = np.empty(targets.shape, np.uint8)
    for i in range(len(targets)):
        target = targets[i] + feedback[:i, i] @ errors[:i] if i else targets[i]
        levels[i] = level = nearest(target, step, minimum, top)
        errors[i] = weights[i] - (minimum + step * level)
    return levels
