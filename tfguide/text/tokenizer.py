"""The tokenizer of a checkpoint folder."""

from __future__ import annotations

import os


def read_tokenizer(folder: str | os.PathLike):
    """The `tokenizers.Tokenizer` of a folder's tokenizer.json, which neither cuts nor pads.

    A tokenizer.json may ask for every text to be cut or padded to some length. That is for training, and would silently
    change a prompt. Raises ImportError where the package `tokenizers` is not installed, ValueError where the file is
    missing or not whole.
    """
    file = os.path.join(folder, "tokenizer.json")
    if not os.path.isfile(file):
        raise ValueError(f"no tokenizer.json in {folder}: expected a folder as Hugging Face writes it")
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        if error.name != "tokenizers":
            raise
        raise ImportError("text needs the package tokenizers: pip install 'tfguide[text]'") from None
    try:
        tokenizer = Tokenizer.from_file(file)
    except Exception as error:  # tokenizers raises Exception itself
        raise ValueError(f"{file}: not a whole tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
