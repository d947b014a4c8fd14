"""A whole run, from texts to a folder: tokenizer, model, steps, and the record of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tfguide.initialization import init_weights
from tfguide.loading import load_framework
from tfguide.tasks import documentation
from tfguide.temporary import write_file
from tfguide.text import read_tokenizer
from tfguide.training.folders import check_folder, write_curve, write_model
from tfguide.training.loop import Record, train
from tfguide.training.recipe import Recipe
from tfguide.training.state import load_state, save_state


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
    check_folder(folder, resume)
    learned, held_out = documentation.split_documents(documentation.documents(text))
    tokenizer = read_tokenizer(folder) if resume else documentation.train_tokenizer(learned.values())
    tokens, measured = (documentation.encode(tokenizer, part.values()) for part in (learned, held_out))
    config = documentation.model_config(tokenizer.get_vocab_size())
    trainer = package.Trainer(package.from_weights(config, init_weights(config, recipe.seed)), recipe)
    records = load_state(folder, trainer) if resume else []
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "tokenizer.json", tokenizer.to_str())
    write_file(folder / "held_out.txt", "".join(text + documentation.END for text in held_out.values()))
    for record in train(trainer, tokens, measured, start=len(records)):
        records.append(record)
        if record.perplexity is not None:
            save_state(folder, trainer, records)
        yield record
    facts = {
        "framework": framework, "command": command,
        "tokens": {"training": len(tokens), "held_out": len(measured), "bytes": _bytes(held_out)},
    }  # fmt: skip
    write_curve(folder, facts, recipe, records)
    write_model(folder, config, trainer.model.to_weights())


def _bytes(texts):
    return sum(len(text.encode()) for text in texts.values())
