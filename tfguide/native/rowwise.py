"""The computation between the matrix products of a prompt: one task on each row, by the kernels of rowwise.h.

Addresses give the input and output rows (rows, width), which are contiguous and of one of TYPES. All functions raise
TypeError or ValueError for sizes and types that do not match.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfguide.checks.shapes import check_activation
from tfguide.checks.values import check_choice, check_count
from tfguide.native import abi
from tfguide.native.library import library
from tfguide.native.tensors import address_of

ONE_THREAD = 1 << 18  # numbers that one thread computes before another one would wake up


def normalise(
    x: int, y: int, rows: int, dtype: str, weight: np.ndarray, bias: np.ndarray | None, eps: float, is_rms: bool,
    threads: int,
) -> None:  # fmt: skip
    """The norm of each row, y. weight, bias: float32, (width,)."""
    width = weight.size
    norm = abi.Norm(
        address_of("weight", weight, (width,)), None if bias is None else address_of("bias", bias, (width,))
    )
    _run(threads, "normalise", x, y, rows, width, dtype, norm=norm, eps=eps, is_rms=is_rms)


def activate(
    activation: str, up: int, gate: int | None, y: int, rows: int, width: int, dtype: str, threads: int
) -> None:
    """The activation of `up`, or of the gate times `up` if the activation has a gate, y."""
    check_activation(activation, gate is not None)
    x, other = (up, None) if gate is None else (gate, up)
    _run(threads, "activate", x, y, rows, width, dtype, activation=activation, other=other)


def rotate(
    x: int, y: int, rows: int, width: int, dtype: str, cos: np.ndarray, sin: np.ndarray, threads: int,
    d_head: int | None = None,
) -> None:  # fmt: skip
    """Heads of d numbers, width / d in a row, rotated by their row's angles, y. cos, sin: float32, (rows, r / 2).

    d_head: d, of which the first r are rotated; default: r.
    """
    half = cos.shape[-1]
    d_head = 2 * half if d_head is None else check_count("d_head", d_head)
    if not half or 2 * half > d_head or width % d_head:
        raise ValueError(f"cos and sin of {half} angles rotate heads of {d_head} numbers, got rows of {width}")
    # `cos` and `sin` stay the arrays until the call ends: nobody else may hold them.
    tables = {name: address_of(name, table, (rows, half)) for name, table in (("cos", cos), ("sin", sin))}
    _run(threads, "rotate", x, y, rows, width, dtype, **tables, head=d_head, rotated=2 * half)


def _run(threads: int, task: str, x: int, y: int, rows: int, width: int, dtype: str, **more: Any) -> None:
    check_choice("dtype", dtype, abi.TYPES)
    check_count("threads", threads)
    if check_count("rows", rows, 0) == 0:
        return
    places = {name: check_count(name, place) for name, place in (("x", x), ("y", y))}
    work = abi.rowwise(task, dtype, rows=rows, width=check_count("width", width), **places, **more)
    few = rows * width < ONE_THREAD
    library().tfguide_rowwise(work, 1 if few else threads)
