"""Build models without weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_INITIALISERS = tuple(f for name, f in vars(nn.init).items() if name.endswith("_") and not name.startswith("_"))


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Within the block, layers are built without memory for their weights, which the caller sets afterwards."""
    with torch.device("meta"), _NoInitialisation():
        yield


class _NoInitialisation(TorchFunctionMode):
    """A mode in which the functions of torch.nn.init leave a tensor unchanged.

    On the meta device a normal distribution needs PyTorch's compiler, which takes seconds to import.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _INITIALISERS:
            return kwargs["tensor"]
        return function(*args, **(kwargs or {}))
