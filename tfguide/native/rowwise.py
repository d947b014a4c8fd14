"""What stands between the matrix products of a prompt, by the kernels of rowwise.h, on plain addresses.

The rows (rows, width) that go in and come out lie one after the other in memory, in one of TYPES.
"""

from __future__ import annotations

import ctypes
from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np

from tfguide.config import ACTIVATIONS
from tfguide.native.decoder import TYPES, Matrix, Norm, described
from tfguide.native.library import library

ONE_THREAD = 1 << 18  # numbers that one thread is done with before it could have woken another one
_TASKS = ("normalise", "activate", "rotate")


class _Rowwise(Structure):
    _fields_ = [
        ("x", c_void_p), ("other", c_void_p), ("y", c_void_p), ("norm", Norm), ("cos", c_void_p), ("sin", c_void_p),
        ("rows", c_int64), ("width", c_int64), ("head", c_int64),
        *((name, c_int32) for name in ("task", "type", "activation", "is_rms")), ("eps", c_float),
    ]  # fmt: skip


def normalise(
    x: int, y: int, rows: int, dtype: str, weight: np.ndarray, bias: np.ndarray | None, eps: float, is_rms: bool,
    threads: int,
) -> None:  # fmt: skip
    """The norm of each row, y. weight, bias: float32, (width,)."""
    norm = Norm(weight.ctypes.data, None if bias is None else bias.ctypes.data)
    _run(threads, "normalise", x, y, rows, len(weight), dtype, norm=norm, eps=eps, is_rms=is_rms)


def activate(activation: str, up: int, gate: int | None, y: int, rows: int, width: int, dtype: str, threads: int):
    """The activation of `up`, or of the gate times `up` where there is one, y."""
    x, other = (up, None) if gate is None else (gate, up)
    _run(threads, "activate", x, y, rows, width, dtype, other=other, activation=ACTIVATIONS.index(activation))


def rotate(x: int, y: int, rows: int, width: int, dtype: str, cos: np.ndarray, sin: np.ndarray, threads: int) -> None:
    """Heads of d numbers, width / d in a row, turned by their row's angles, y. cos, sin: float32, (rows, d / 2)."""
    head = 2 * cos.shape[1]
    _run(threads, "rotate", x, y, rows, width, dtype, cos=cos.ctypes.data, sin=sin.ctypes.data, head=head)


def unpack(matrix: Matrix, y: int, dtype: str, threads: int) -> None:
    """A packed matrix as (in, out) numbers, y: 8-bit ones without the scales of their outputs, 4-bit ones with."""
    library().tfguide_unpack(ctypes.byref(described(matrix)), c_void_p(y), TYPES.index(dtype), threads)


def _run(threads: int, task: str, x: int, y: int, rows: int, width: int, dtype: str, **more: Any) -> None:
    work = _Rowwise(
        x=x, y=y, rows=rows, width=width, task=_TASKS.index(task), type=TYPES.index(dtype), **more
    )  # fmt: skip
    few = rows * width < ONE_THREAD
    library().tfguide_rowwise(ctypes.byref(work), 1 if few else threads)
