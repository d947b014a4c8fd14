"""Load triton, which comes with PyTorch's CUDA build, so that TensorFlow works in the same process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys


def load_triton() -> None:
    """Import triton in a way that lets TensorFlow work beside it; does nothing where one of the three is missing.

    PyTorch imports triton late, for instance when an optimizer is made. By then TensorFlow may have been imported.
    Both bring their own LLVM, with the same symbols, and TensorFlow's are visible to the whole process: triton's
    library would be linked to them, and the process would end with a segmentation fault. A library that is loaded
    before TensorFlow is linked to its own LLVM, and so is one that is loaded with RTLD_DEEPBIND.
    """
    if "triton" in sys.modules or not all(map(importlib.util.find_spec, ("torch", "tensorflow"))):
        return
    linking = _own_symbols_first() if "tensorflow" in sys.modules else contextlib.nullcontext()
    with linking, contextlib.suppress(ImportError):  # the CPU build has none, and a broken one is PyTorch's to report
        import triton  # noqa: F401


@contextlib.contextmanager
def _own_symbols_first():
    """Within the block, a library that Python loads looks for a symbol in itself before it looks in the process."""
    if not hasattr(os, "RTLD_DEEPBIND"):  # no Linux, and so no triton
        yield
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(flags)
