"""The address of a tensor, returned only if its type, shape and layout are those that the kernels read.

A tensor is a NumPy array, or an object with the methods of PyTorch's tensors; PyTorch itself is not imported.
An array of uint16 holds the bits of bfloat16, since NumPy has no such type.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.compress.packing import aligned

# The type of a NumPy array that holds numbers of a type.
NUMPY_TYPES = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16, "int8": np.int8}


def address_of(name: str, tensor: Any, shape: Sequence[int], dtype: str = "float32") -> int:
    """The address of a contiguous tensor of this shape and type. Raises TypeError or ValueError that names it."""
    if dtype_of(tensor) != dtype:
        raise TypeError(f"{name} must be {dtype}, got {dtype_of(tensor)}")
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if not is_contiguous(tensor):
        raise ValueError(f"{name} must lie in one piece in main memory, row by row; got {describe_layout(tensor)}")
    return locate(tensor)


def in_place(array: np.ndarray, size: int) -> np.ndarray:
    """An array where it lies, or a copy where the kernels cannot read it: with gaps, or at an odd place of a file.

    size: the bytes of a number.
    """
    return array if array.flags.c_contiguous and array.ctypes.data % size == 0 else aligned(array)


def locate(tensor: Any) -> int:
    """The address of a tensor whose type, shape and layout have been checked."""
    return tensor.ctypes.data if isinstance(tensor, np.ndarray) else tensor.data_ptr()


def dtype_of(tensor: Any) -> str:
    """The name of a tensor's type, without the name of its library; "bfloat16" for uint16."""
    return _name(tensor.dtype)


@functools.cache  # NumPy takes 2 us to format the name of a type
def _name(dtype):
    name = str(dtype).removeprefix("torch.")
    return "bfloat16" if name == "uint16" else name


def is_contiguous(tensor: Any) -> bool:
    """Whether a tensor is contiguous, row by row, in main memory."""
    if isinstance(tensor, np.ndarray):
        return tensor.flags.c_contiguous
    return tensor.is_contiguous() and tensor.is_cpu


def find_other(tensors: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The first tensor that is not contiguous, of this shape and of the first one's type; None if all are.

    The two kinds of tensors have separate code because this runs in every decoding step: 0.2 us for a tensor.
    """
    dtype = tensors[0].dtype
    if isinstance(tensors[0], np.ndarray):
        for array in tensors:
            if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
                return array
    else:
        for tensor in tensors:
            if tensor.shape != shape or tensor.dtype != dtype or not tensor.is_contiguous() or not tensor.is_cpu:
                return tensor
    return None


def describe_layout(tensor: Any) -> str:
    """The strides of a tensor and the place of its memory, for an error message."""
    if isinstance(tensor, np.ndarray):
        return f"strides of {tensor.strides} bytes"
    return f"strides of {tuple(tensor.stride())} numbers on {tensor.device}"
