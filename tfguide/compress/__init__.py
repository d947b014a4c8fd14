"""Smaller models, as arithmetic on NumPy arrays: quantisation, pruning, fewer key/value heads. No framework."""

from tfguide.compress.packing import dequantize, pack_int4, pack_int8, unpack_int4, unpack_int8
from tfguide.compress.quantization import (
    ACTIVATION_BLOCK,
    Quantization,
    error_bound,
    quantize_activations,
    quantize_int4,
    quantize_int8,
)

__all__ = [
    "ACTIVATION_BLOCK", "Quantization", "dequantize", "error_bound", "pack_int4", "pack_int8", "quantize_activations",
    "quantize_int4", "quantize_int8", "unpack_int4", "unpack_int8",
]  # fmt: skip
