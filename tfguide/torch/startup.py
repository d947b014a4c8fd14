"""Import PyTorch with the settings of this package, or raise a clear error."""

from __future__ import annotations

from tfguide.triton import load_triton

load_triton()  # before PyTorch loads it
try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("tfguide.torch needs PyTorch: install it with pip install 'tfguide[torch]'") from error
