"""The limits of this machine: bytes a second from memory, floating-point operations a second in a product."""

from __future__ import annotations

import time

import numpy as np

from tfguide import native

_PATIENCE = 1.0  # seconds of a product


def memory_reader() -> native.MemoryReader:
    """A buffer larger than any cache; each call reads it once and returns the bytes a second."""
    return native.MemoryReader()


def measure(reader: native.MemoryReader) -> dict[str, float]:
    """What bounds a result on this machine: bytes a second from memory, operations a second of large products."""
    return {
        "read_bytes_per_second": max(reader() for _ in range(5)),
        "float32_flops": matrix_flops("float32"),
        "bfloat16_flops": matrix_flops("bfloat16"),
    }


def matrix_flops(dtype: str, size: int = 2048, repeats: int = 5) -> float:
    """Operations a second of a square product in PyTorch, the faster framework here: the best of `repeats`.

    dtype: "float32" or "bfloat16". Without PyTorch, NumPy's float32 product is measured for both. Where a product would
    take more than a second, as in bfloat16 on a processor that does not multiply it, a smaller one is measured.
    """
    try:
        import torch
    except ModuleNotFoundError:
        a = np.ones((size, size), np.float32)
        return _best(lambda: a @ a, size, repeats)
    from tfguide.torch.fast.tree import faster_product

    a = torch.ones(size, size, dtype=getattr(torch, dtype))
    product = faster_product() if dtype == "float32" else None
    with torch.inference_mode():
        part = a[: size // 8, : size // 8]
        rate = _best(lambda: part @ part, size // 8, repeats)
        if 2 * size**3 / rate > _PATIENCE:
            return rate
        default = _best(lambda: a @ a, size, repeats)
        return max(default, _best(lambda: product(a, a, None, "none", [], ""), size, repeats)) if product else default


def _best(product, size, repeats):
    product()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
