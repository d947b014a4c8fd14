"""Real English text that every reader has: the documentation that comes with Python."""

from __future__ import annotations

import os

import numpy as np

from tfguide.tasks.own import read_text

VOCABULARY = 256  # bytes


def topics(path: str | os.PathLike | None = None) -> str:
    """The language reference that `help()` shows, about 500 KB; or the text of a file of your own, in UTF-8."""
    if path is not None:
        return read_text(path)
    from pydoc_data.topics import topics as texts

    return "\n\n".join(texts[name] for name in sorted(texts))


def byte_tokens(text: str) -> np.ndarray:
    """A text as the numbers of its UTF-8 bytes: int64 (n,), each below VOCABULARY."""
    return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64)


def split(tokens: np.ndarray, held_out: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The first part to train on and the last `held_out` of it to test on. Raises ValueError outside (0, 1)."""
    if not 0 < held_out < 1:
        raise ValueError(f"held_out must lie between 0 and 1, got {held_out}")
    at = round(len(tokens) * (1 - held_out))
    return tokens[:at], tokens[at:]
