"""`tfguide bench quantization` of an encoder: how far each type of weights turns the vectors of texts."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from tfguide.bench.models import read_model
from tfguide.bench.quality import our_models
from tfguide.bench.timing import machine, show_name
from tfguide.loading import load_framework

_ROWS = 32  # texts that are read at once


def bench_vectors(
    path: str | os.PathLike,
    tokens: np.ndarray,
    calibration: np.ndarray,
    framework: str = "torch",
    keep: Callable[[dict], None] = lambda result: None,
) -> dict:
    """The cosine between each text's vector and that of float32 weights, and the bits of each of `quality.WEIGHTS`.

    path: an encoder, as a GGUF file or a checkpoint folder. tokens: (B, T), texts of one length; the vector of a text
    is the mean of its hidden states. calibration: (N, T), other texts. A row has the mean "cosine" and the
    "least_cosine" of a text, and the sizes of `weights_size`. `keep` is given the result after every row. Raises
    ValueError for a model that is no encoder, or without a text.
    """
    config, weights = read_model(path)
    if config.kind != "encoder":
        raise ValueError(f"the vectors of texts are those of an encoder, got a model of kind {config.kind!r}")
    if np.ndim(tokens) != 2 or not np.size(tokens):
        raise ValueError(f"tokens must be texts of one length, (B, T), got the shape {np.shape(tokens)}")
    result = {"task": "vectors", "machine": machine(False), "config": config.to_dict(), "texts": len(tokens)}
    result |= {"window": np.shape(tokens)[1], "calibration_tokens": int(np.size(calibration)), "rows": []}
    tg, exact = load_framework(framework), None
    for row, model in our_models(tg, framework, path, config, weights, calibration):
        vectors = _vectors(tg, model, tokens)
        exact = vectors if exact is None else exact  # float32 comes first
        cosines = (vectors * exact).sum(axis=1)
        result["rows"].append(row | {"cosine": float(cosines.mean()), "least_cosine": float(cosines.min())})
        keep(result)
    return result


def table(result: dict) -> str:
    """The rows as lines of text."""
    lines = [
        f"vectors of {result['texts']} texts of {result['window']} tokens; "
        f"calibrated on {result['calibration_tokens']} others",
        f"{'':18} {'weights':39}{'cosine':>8}{'least':>8}{'bits':>6}{'MB':>6}",
    ]
    for row in result["rows"]:
        cosines = f"{row['cosine']:>8.4f}{row['least_cosine']:>8.4f}"
        sizes = f"{row['bits']:>6.2f}{row['n_bytes'] / 1e6:>6.0f}"
        lines.append(f"{show_name(row):18} {row['weights']:39}{cosines}{sizes}")
    return "\n".join(lines)


def _vectors(tg, model, tokens):
    """The vectors of the texts, of length 1: (B, D), float64."""
    vectors = []
    for start in range(0, len(tokens), _ROWS):
        rows = slice(start, start + _ROWS)
        with model.without_gradients():
            vectors.append(np.asarray(tg.sentence_embeddings(model, tokens[rows]), np.float64))
    return np.concatenate(vectors)
