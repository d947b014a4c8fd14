"""Import PyTorch as this package needs it, with a clear error where that cannot be."""

from __future__ import annotations

from tfguide.triton import load_triton

load_triton()  # before PyTorch does
try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("tfguide.torch needs PyTorch: install it with pip install 'tfguide[torch]'") from error
