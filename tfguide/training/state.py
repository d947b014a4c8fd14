"""A training run on the disk: one file, from which it goes on in either framework."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tfguide.temporary import hidden_folder, remove_orphans, sync
from tfguide.training.loop import Record, Trainer
from tfguide.training.recipe import Recipe

FILE = "training.safetensors"
_WEIGHT = "weight."


def save_state(folder: str | os.PathLike, trainer: Trainer, records: Sequence[Record]) -> None:
    """Write weights, moments, recipe and records to one file of a folder, which is replaced at once or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {_WEIGHT + name: array for name, array in trainer.model.to_weights().items()} | trainer.moments()
    metadata = {
        "recipe": json.dumps(dataclasses.asdict(trainer.recipe)),
        "records": json.dumps([dataclasses.astuple(record) for record in records]),
    }
    remove_orphans(folder, FILE)
    with hidden_folder(folder, FILE) as hidden:
        written = hidden / FILE
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, written, metadata)
        sync(written)
        os.replace(written, folder / FILE)


def load_state(folder: str | os.PathLike, trainer: Trainer) -> list[Record]:
    """Set a trainer to the state that `save_state` wrote, and return the records so far.

    The run goes on as if it had not been interrupted. Raises FileNotFoundError where there is no state, ValueError
    where it is that of another recipe or of another model.
    """
    with safe_open(Path(folder) / FILE, "numpy") as file:
        metadata = file.metadata()
        recipe = Recipe(**json.loads(metadata["recipe"]))
        if differences := recipe.differences(trainer.recipe):
            raise ValueError(f"the run in {folder} has another recipe: {'; '.join(differences)}")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    weights = {name.removeprefix(_WEIGHT): array for name, array in arrays.items() if name.startswith(_WEIGHT)}
    own, stored = _shapes(trainer.model.to_weights()), _shapes(weights)
    if other := [name for name in own | stored if own.get(name) != stored.get(name)]:
        name = other[0]
        raise ValueError(f"the run in {folder} has another model: {name} {stored.get(name)} and {own.get(name)}")
    trainer.restore(weights, {name: array for name, array in arrays.items() if not name.startswith(_WEIGHT)})
    return [Record(*values) for values in json.loads(metadata["records"])]


def _shapes(weights):
    return {name: array.shape for name, array in weights.items()}
