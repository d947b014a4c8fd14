"""The folder of a run: whether it may be written, the curve, and the model in float16."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tfguide.checkpoints import write_checkpoint
from tfguide.config import ModelConfig
from tfguide.temporary import hidden_folder, write_file
from tfguide.training.loop import Record
from tfguide.training.recipe import Recipe
from tfguide.training.state import FILE
from tfguide.versions import versions


def check_folder(folder: Path, resume: bool) -> None:
    """Raises FileExistsError where a folder has a run already and `resume` is false, FileNotFoundError where it has
    none and `resume` is true."""
    if (folder / FILE).exists() and not resume:
        raise FileExistsError(f"{folder} has a run already: resume it, or name another folder")
    if resume and not (folder / FILE).exists():
        raise FileNotFoundError(f"there is no run in {folder} to resume")


def write_curve(folder: Path, facts: Mapping[str, Any], recipe: Recipe, records: Sequence[Record]) -> None:
    """Write curve.json: facts, the versions, the recipe, the loss and the norm of each step, and each measurement with
    the steps before it."""
    curve = {
        **facts,
        "versions": versions(),
        "recipe": dataclasses.asdict(recipe),
        "loss": [round(record.loss, 4) for record in records],
        "norm": [round(record.norm, 3) for record in records],
    }
    for name in ("perplexity", "score"):
        measured = [(record.step + 1, vars(record)[name]) for record in records]
        if any(value is not None for _, value in measured):
            curve[name] = [[step, round(value, 4)] for step, value in measured if value is not None]
    write_file(folder / "curve.json", json.dumps(curve, separators=(",", ":")) + "\n")


def write_model(folder: Path, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Write a folder as Hugging Face does, with weights in float16, which are half as large; other files stay."""
    with hidden_folder(folder, "model") as hidden:
        written = hidden / "model"
        write_checkpoint(written, config, weights)
        arrays = {name: array.astype(np.float16) for name, array in load_file(written / "model.safetensors").items()}
        save_file(arrays, written / "model.safetensors", {"format": "pt"})
        (written / "model.safetensors").chmod((written / "config.json").stat().st_mode)
        for file in written.iterdir():
            os.replace(file, folder / file.name)
