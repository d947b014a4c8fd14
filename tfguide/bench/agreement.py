"""Who may be timed: a contestant whose logits are those of the plain float32 model, but for its type's rounding."""

from __future__ import annotations

import numpy as np

# How far the logits after the prompt may be from those of the plain float32 model: root mean square, relative.
# Independent logits differ by 1.4. Random weights have no structure, so that rounding to 4 bits changes much.
AGREEMENT = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02, "int8": 0.1, "int4": 0.7}


def check_agreement(logits: np.ndarray, truth: np.ndarray, dtype: str) -> float:
    """The difference between logits of one shape, relative; RuntimeError if it is more than the type's rounding."""
    difference = float(np.sqrt(np.mean((logits - truth) ** 2) / np.mean(truth**2)))
    if not difference <= AGREEMENT[dtype]:
        raise RuntimeError(f"its logits differ by {difference:.3g} of their size, more than allowed")
    return difference
