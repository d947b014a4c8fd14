"""Models that are built before they have weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_INITIALISERS = tuple(f for name, f in vars(nn.init).items() if name.endswith("_") and not name.startswith("_"))


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Within the block, layers are built without memory for their weights, which somebody else's will replace."""
    with torch.device("meta"), _NoInitialisation():
        yield


class _NoInitialisation(TorchFunctionMode):
    """Within it, the functions of torch.nn.init leave a tensor as it is.

    The meta device needs PyTorch's compiler for a normal distribution, which takes seconds to import.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _INITIALISERS:
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))
