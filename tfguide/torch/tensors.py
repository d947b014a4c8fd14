"""Tensors from whatever a caller passes, and their types."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_tensor(values, device=None) -> Tensor:
    """A tensor as it is, anything else as NumPy reads it; on a device where one is named. Integers become int64.

    The array is copied: PyTorch takes none with negative strides or another byte order, and warns of one that cannot be
    written; it does not compute with unsigned integers.
    """
    if not isinstance(values, Tensor):
        array = np.asarray(values)
        if array.dtype == np.uint64:
            array = np.minimum(array, np.uint64(2**63 - 1))
        dtype = np.int64 if array.dtype.kind in "iu" else array.dtype.newbyteorder("=")
        values = torch.from_numpy(np.array(array, dtype, order="C"))
    elif values.dtype in (torch.uint16, torch.uint32, torch.uint64):
        values = values.long()
    return values.to(device)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is wider: half precision has too few digits for a sum of exponentials."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_float32(x: Tensor) -> np.ndarray:
    """A tensor as a float32 array in main memory; a copy only where it must be one."""
    return x.detach().float().cpu().numpy()
