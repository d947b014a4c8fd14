"""C++ kernels for decoding, built on the machine they run on; both frameworks share their weights with them."""

from tfguide.native.abi import CACHE_TYPES, EXACT_ROWS, FORMATS, MANY_TOKENS, MAX_ROWS
from tfguide.native.blocks import BLOCK_TYPES
from tfguide.native.cache import NativeCache
from tfguide.native.decoder import NativeDecoder, UnsupportedModel, check
from tfguide.native.generator import HEAD_ROWS, NativeGenerator
from tfguide.native.level import level
from tfguide.native.library import NativeUnavailable, is_available, is_built, library
from tfguide.native.linear import Matrix, multiply, unpack
from tfguide.native.loading import load
from tfguide.native.machine import cores, default_threads, processor_vendor, use_huge_pages
from tfguide.native.memory import MemoryReader
from tfguide.native.model import ArrayDecoder
from tfguide.native.rowwise import activate, normalise, rotate
from tfguide.native.storage import ArrayStorage, empty_arrays
from tfguide.native.stored import matrix_of_blocks
from tfguide.native.tensors import address_of

__all__ = [
    "BLOCK_TYPES", "CACHE_TYPES", "EXACT_ROWS", "FORMATS", "HEAD_ROWS", "MANY_TOKENS", "MAX_ROWS", "ArrayDecoder",
    "ArrayStorage", "Matrix", "MemoryReader", "NativeCache", "NativeDecoder", "NativeGenerator",
    "NativeUnavailable", "UnsupportedModel", "activate", "address_of", "check", "cores", "default_threads",
    "empty_arrays", "is_available", "is_built", "level", "library", "load", "matrix_of_blocks", "multiply", "normalise",
    "processor_vendor", "rotate", "unpack", "use_huge_pages",
]  # fmt: skip
