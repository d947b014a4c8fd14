"""Convert a caller's values to tensors, and tensors between types."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def as_tensor(values, device=None) -> Tensor:
    """A tensor, or values that NumPy reads, as a tensor, moved to `device` if given. NumPy's integers become int64.

    An array is copied, because PyTorch rejects negative strides and foreign byte orders and warns about read-only
    arrays. Unsigned integers become int64, because PyTorch does not compute with them.
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
    """x in float32 or its own wider type: half precision has too few digits for a sum of exponentials."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def to_float32(x: Tensor) -> np.ndarray:
    """A tensor as a float32 array in main memory, copied only if necessary."""
    return x.detach().float().cpu().numpy()
