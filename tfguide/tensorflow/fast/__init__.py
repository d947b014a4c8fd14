"""The fast versions of a model: by C++ kernels, or compiled. Each is a separate object with the same parameters."""

from tfguide.tensorflow.fast.compiled import CompiledDecoder
from tfguide.tensorflow.fast.decoder import FastDecoder, accelerate

__all__ = ["CompiledDecoder", "FastDecoder", "accelerate"]
