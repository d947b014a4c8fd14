"""Folders that Hugging Face writes, read into PyTorch models and written from them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfguide.checkpoints import is_quantized, read_checkpoint, read_quantized, write_checkpoint, write_quantized
from tfguide.checkpoints.quantized import pack_checkpoint
from tfguide.compress import Quantization
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder, from_weights
from tfguide.torch.quantized import from_quantized, to_quantized
from tfguide.weights import check_dtype


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
    check_dtype(dtype)
    if not (quantization is None or isinstance(quantization, Quantization)):
        raise TypeError(f"quantization must be a Quantization or None, got {type(quantization).__name__}")
    if is_quantized(folder):
        if quantization is not None:
            raise ValueError(f"the model in {folder} is quantised already")
        return from_quantized(*read_quantized(folder), dtype)
    config, weights = read_checkpoint(folder, ignore)
    if quantization is None:
        return from_weights(config, weights, dtype)
    return from_quantized(config, quantization, pack_checkpoint(config, weights, quantization), dtype)


def save_checkpoint(
    model: Encoder | Decoder | EncoderDecoder, folder: str | os.PathLike, overwrite: bool = False
) -> None:
    """Write a model to a folder that `transformers` reads and that gives the same outputs there.

    A quantised model is written as this package keeps it, which `load_checkpoint` reads and `transformers` refuses.

    Raises FileExistsError where the folder holds something, unless `overwrite`; ValueError for a model that none of
    the families can express; see `tfguide.checkpoints.write_checkpoint`.
    """
    if model.quantization is None:
        write_checkpoint(folder, model.config, model.to_weights(), overwrite)
    else:
        write_quantized(folder, model.config, model.quantization, to_quantized(model), overwrite)
