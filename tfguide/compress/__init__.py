"""Smaller models, as arithmetic on NumPy arrays: quantisation, pruning, fewer key/value heads. No framework."""

from tfguide.compress.packing import (
    dequantize,
    pack_int4,
    pack_int8,
    pack_uint4,
    unpack_int4,
    unpack_int8,
    unpack_uint4,
)
from tfguide.compress.quantization import (
    ACTIVATION_BLOCK,
    Quantization,
    error_bound,
    quantize_activations,
    quantize_int4,
    quantize_int8,
    quantize_uint4,
)
from tfguide.compress.rounding import Metric, mean_square_bound

__all__ = [
    "ACTIVATION_BLOCK", "Metric", "Quantization", "dequantize", "error_bound", "mean_square_bound", "pack_int4",
    "pack_int8", "pack_uint4", "quantize_activations", "quantize_int4", "quantize_int8", "quantize_uint4",
    "unpack_int4", "unpack_int8", "unpack_uint4",
]  # fmt: skip
