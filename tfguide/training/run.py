"""A whole run, from texts to a folder: tokenizer, model, steps, and the record of them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tfguide.checkpoints import write_checkpoint
from tfguide.initialization import init_weights
from tfguide.loading import load_framework
from tfguide.tasks import documentation
from tfguide.temporary import hidden_folder, write_file
from tfguide.text import read_tokenizer
from tfguide.training.loop import Record, train
from tfguide.training.recipe import Recipe
from tfguide.training.state import FILE, load_state, save_state
from tfguide.versions import versions


def train_folder(
    framework: str,
    folder: str | os.PathLike,
    recipe: Recipe,
    text: str | os.PathLike | None = None,
    resume: bool = False,
    command: str = "",
) -> Iterator[Record]:
    """Train the book's decoder on texts and write it to a folder; yields a record after each step.

    text: as `path` of `documents` in `tfguide.tasks.documentation`. The state is saved at every measurement, so that
    `resume` goes on from the last one, in either framework. At the end the folder has what `load_checkpoint` and
    `read_tokenizer` read, with weights in float16; held_out.txt; and curve.json, with `command`, the versions and the
    machine.

    Raises FileExistsError where the folder has a run already and `resume` is false, FileNotFoundError where it has none
    and `resume` is true, ValueError where that has another recipe, and as `documents` and `split_documents`.
    """
    folder, package = Path(folder), load_framework(framework)
    if (folder / FILE).exists() and not resume:
        raise FileExistsError(f"{folder} has a run already: resume it, or name another folder")
    if resume and not (folder / FILE).exists():
        raise FileNotFoundError(f"there is no run in {folder} to resume")
    learned, held_out = documentation.split_documents(documentation.documents(text))
    tokenizer = read_tokenizer(folder) if resume else documentation.train_tokenizer(learned.values())
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "tokenizer.json", tokenizer.to_str())
    write_file(folder / "held_out.txt", "".join(text + documentation.END for text in held_out.values()))
    tokens, measured = (documentation.encode(tokenizer, part.values()) for part in (learned, held_out))
    config = documentation.model_config(tokenizer.get_vocab_size())
    trainer = package.Trainer(package.from_weights(config, init_weights(config, recipe.seed)), recipe)
    records = load_state(folder, trainer) if resume else []
    for record in train(trainer, tokens, measured, start=len(records)):
        records.append(record)
        if record.perplexity is not None:
            save_state(folder, trainer, records)
        yield record
    facts = {
        "framework": framework, "command": command, "versions": versions(),
        "tokens": {"training": len(tokens), "held_out": len(measured), "bytes": _bytes(held_out)},
    }  # fmt: skip
    write_file(folder / "curve.json", json.dumps(facts | _curve(recipe, records), separators=(",", ":")) + "\n")
    _write_model(folder, config, trainer.model.to_weights())


def _curve(recipe: Recipe, records: Sequence[Record]) -> dict:
    """What happened, as JSON: the loss and the norm of each step, and each perplexity with the steps before it."""
    return {
        "recipe": dataclasses.asdict(recipe),
        "loss": [round(record.loss, 4) for record in records],
        "norm": [round(record.norm, 3) for record in records],
        "perplexity": [[record.step + 1, round(record.perplexity, 3)] for record in records if record.perplexity],
    }


def _bytes(texts):
    return sum(len(text.encode()) for text in texts.values())


def _write_model(folder, config, weights):
    """A folder as Hugging Face writes it, with weights in float16, which are half as large."""
    with hidden_folder(folder, "model") as hidden:
        written = hidden / "model"
        write_checkpoint(written, config, weights)
        arrays = {name: array.astype(np.float16) for name, array in load_file(written / "model.safetensors").items()}
        save_file(arrays, written / "model.safetensors", {"format": "pt"})
        (written / "model.safetensors").chmod((written / "config.json").stat().st_mode)
        for file in written.iterdir():
            os.replace(file, folder / file.name)
