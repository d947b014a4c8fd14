"""C++ kernels for decoding, built on the machine they run on; both frameworks hand them their weights."""

from tfguide.native.decoder import (
    FORMATS,
    MAX_ROWS,
    Matrix,
    MemoryReader,
    NativeCache,
    NativeDecoder,
    check,
    cores,
    multiply,
)
from tfguide.native.generator import NativeGenerator
from tfguide.native.library import NativeUnavailable, is_available, library, processor_vendor
from tfguide.native.rowwise import activate, normalise, rotate, unpack

__all__ = [
    "FORMATS", "MAX_ROWS", "Matrix", "MemoryReader", "NativeCache", "NativeDecoder", "NativeGenerator",
    "NativeUnavailable", "activate", "check", "cores", "is_available", "library", "multiply", "normalise",
    "processor_vendor", "rotate", "unpack",
]  # fmt: skip
