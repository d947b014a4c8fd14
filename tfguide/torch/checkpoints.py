"""Folders that Hugging Face writes, read into PyTorch models and written from them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfguide.checkpoints import read_checkpoint, write_checkpoint
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder, from_weights, to_weights


def load_checkpoint(folder: str | os.PathLike, ignore: Sequence[str] = ()) -> Encoder | Decoder | EncoderDecoder:
    """The model in a folder with config.json and safetensors, as Hugging Face writes them: bert, gpt2, llama or t5.

    ignore: keys of config.json to pass over, where you know that they do not matter.
    Raises ValueError for what the package does not compute exactly, and for files that are not whole; see
    `tfguide.checkpoints.read_checkpoint`.
    """
    return from_weights(*read_checkpoint(folder, ignore))


def save_checkpoint(
    model: Encoder | Decoder | EncoderDecoder, folder: str | os.PathLike, overwrite: bool = False
) -> None:
    """Write a model to a folder that `transformers` reads and that gives the same outputs there.

    Raises FileExistsError where the folder holds something, unless `overwrite`; ValueError for a model that none of
    the families can express; see `tfguide.checkpoints.write_checkpoint`.
    """
    write_checkpoint(folder, model.config, to_weights(model), overwrite)
