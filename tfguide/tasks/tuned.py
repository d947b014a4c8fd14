"""MiniLM with a head of labels, its last layer trained for a task: what was trained comes with the book, in float16.

A file of a few megabytes holds the weights that were trained. All others are those of MiniLM, in its own package. The
command that made a file stands in its metadata: `python -m tfguide.training.tuning`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tfguide.checkpoints import read_checkpoint
from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.parts import LabelHead
from tfguide.tasks import docstrings, minilm, roles
from tfguide.weights import weight_shapes

#: The head of each task.
HEADS = {
    "classification": LabelHead(n_labels=len(docstrings.LABELS)),
    "roles": LabelHead(n_labels=len(roles.TAGS), per="token"),
}
_FOLDER = Path(__file__).parent / "tuned_models"


def untrained(
    task: str, source: tuple[ModelConfig, Mapping[str, np.ndarray]] | None = None
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The configuration and the weights of MiniLM with a head of zeros, under which all labels are equally likely.

    Without BERT's pooler, which its training left alone, and without dropout, so that both frameworks take the same
    steps. source: another encoder's configuration and weights. Raises ValueError for a task that is none of HEADS, and
    as `tfguide.tasks.minilm.folder`.
    """
    check_choice("task", task, tuple(HEADS))
    config, weights = read_checkpoint(minilm.folder()) if source is None else source
    config = config.replace(labels=HEADS[task], pooler=False, dropout=0.0)
    zeros = np.zeros((config.d_model, config.labels.n_labels), np.float32)
    found = dict(weights) | {"labels.weight": zeros, "labels.bias": zeros[0]}
    return config, {name: found[name] for name in weight_shapes(config)}


def trained_weights(config: ModelConfig) -> list[str]:
    """The weights that are trained: those of the last layer and of the head, and the types of tokens where these say
    which word is the predicate."""
    names = ["embedding.token_type.weight"] if config.labels.per == "token" else []
    last = f"encoder.layers.{config.n_layers - 1}."
    return names + [name for name in weight_shapes(config) if name.startswith((last, "labels."))]


def write(path: str | os.PathLike, config: ModelConfig, weights: Mapping[str, np.ndarray], command: str = "") -> None:
    """Write the trained ones of the weights to a file, in float16. command: what made them."""
    arrays = {name: np.ascontiguousarray(weights[name], np.float16) for name in trained_weights(config)}
    save_file(arrays, path, {"command": command})


def read(
    task: str,
    path: str | os.PathLike | None = None,
    source: tuple[ModelConfig, Mapping[str, np.ndarray]] | None = None,
) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The configuration and the weights, float32, of the model that was trained for a task: for `from_weights`.

    path: a file that `write` made; default: the one that comes with the book. source: as in `untrained`. Raises
    ValueError where the file has other weights than those that are trained, and as `untrained`.
    """
    config, weights = untrained(task, source)
    file = _FOLDER / f"{task}.safetensors" if path is None else Path(path)
    changed = load_file(file)
    expected = {name: weights[name].shape for name in trained_weights(config)}
    if {name: array.shape for name, array in changed.items()} != expected:
        raise ValueError(f"{file}: expected the weights {sorted(expected)}, got {sorted(changed)} or other shapes")
    return config, weights | {name: array.astype(np.float32) for name, array in changed.items()}
