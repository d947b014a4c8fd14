"""Folders that Hugging Face writes, read into TensorFlow models."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfguide.checkpoints.models import read_model
from tfguide.compress import Quantization
from tfguide.tensorflow.models import Decoder, Encoder, EncoderDecoder, from_quantized, from_weights


def load_checkpoint(
    folder: str | os.PathLike,
    ignore: Sequence[str] = (),
    dtype: str = "float32",
    quantization: Quantization | None = None,
) -> Encoder | Decoder | EncoderDecoder:
    """The model in a folder with config.json and safetensors, as Hugging Face writes them: bert, gpt2, llama or t5.

    ignore: keys of config.json to pass over, each with a warning, where you know that they do not matter; a key inside
    another is "outer.inner".
    dtype: of the weights and activations, as in `from_weights`; a quantised model that `save_checkpoint` wrote keeps
    its integers and has the rest in this type.
    quantization: quantise while reading, as `quantize` does with a model, but without holding the whole of it.
    Raises ValueError for what the package does not compute exactly, and for files that are not whole, see
    `tfguide.checkpoints.read_checkpoint`; for `quantization` where the folder is quantised already, or see `quantize`.
    """
    config, quantization, arrays = read_model(folder, ignore, dtype, quantization)
    if quantization is None:
        return from_weights(config, arrays, dtype)
    return from_quantized(config, quantization, arrays, dtype)
