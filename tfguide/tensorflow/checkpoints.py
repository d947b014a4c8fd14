"""Read Hugging Face folders and GGUF files into TensorFlow models."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfguide.checkpoints.models import has_blocks, read_model
from tfguide.compress import Quantization
from tfguide.tensorflow.models import Decoder, Encoder, EncoderDecoder, from_blocks, from_quantized, from_weights


def load_checkpoint(
    folder: str | os.PathLike,
    ignore: Sequence[str] = (),
    dtype: str | None = None,
    quantization: Quantization | None = None,
) -> Encoder | Decoder | EncoderDecoder:
    """The model in a folder with config.json and safetensors, as Hugging Face writes them, or in a GGUF file.

    folder: of a family in `FAMILIES` of `tfguide.checkpoints.reading`; or a .gguf file, or a folder that holds one and
    no safetensors, of an architecture in `ARCHITECTURES` of `tfguide.checkpoints.gguf.reading`.
    ignore: keys of config.json or of the file's metadata that do not matter, to skip with a warning; a key inside
    another is "outer.inner".
    dtype: the type of the weights and activations, as in `from_weights`; default: float32, where the matrices and the
    embedding of a GGUF file stay in its blocks, mapped and not copied (see `BlockLinear`). With a type, what the file
    holds in blocks is dequantised. A quantised model that `save_checkpoint` wrote keeps its integers and loads its
    other weights in this type.
    quantization: quantise while reading, as `quantize` does, but without the unquantised model in memory.
    Raises ValueError for a model that the package does not compute exactly and for incomplete files (see
    `tfguide.checkpoints.read_checkpoint` and `read_gguf`), for `quantization` of a folder that is already quantised,
    and as `quantize`; ImportError where a GGUF file has blocks of a rare type and the package `gguf` is missing.
    """
    config, quantization, arrays = read_model(folder, ignore, dtype, quantization)
    if quantization is not None:
        return from_quantized(config, quantization, arrays, dtype or "float32")
    if has_blocks(arrays):
        return from_blocks(config, arrays)
    return from_weights(config, arrays, dtype or "float32")
