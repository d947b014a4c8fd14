"""C++ kernels for decoding, built on the machine they run on; both frameworks hand them their weights."""

from tfguide.native.decoder import FORMATS, MAX_ROWS, Matrix, NativeDecoder, check, cores, multiply, read_bandwidth
from tfguide.native.library import NativeUnavailable, is_available, library

__all__ = [
    "FORMATS", "MAX_ROWS", "Matrix", "NativeDecoder", "NativeUnavailable", "check", "cores", "is_available", "library",
    "multiply", "read_bandwidth",
]  # fmt: skip
