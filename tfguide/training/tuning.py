"""Train MiniLM's last layer and a head for a task of chapter 7: `python -m tfguide.training.tuning classification`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tfguide.config import ModelConfig
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import classification, roles, tagging, tuned
from tfguide.tasks.examples import Examples, batch_at
from tfguide.temporary import write_file
from tfguide.training.loop import learn
from tfguide.training.recipe import Recipe
from tfguide.versions import versions

#: The recipes of the models that come with the book; the length of a row is that of its text.
RECIPES = {
    "classification": Recipe(steps=360, rows=32, learning_rate=5e-4, warmup=30, floor=0.02),
    "roles": Recipe(steps=300, rows=32, learning_rate=1e-3, warmup=30, floor=0.02),
}
SENTENCES = 8000  # to learn the roles from


def training_examples(task: str) -> Examples:
    """What the book's model of a task has learned from."""
    if task == "roles":
        return tagging.examples(roles.sentences(SENTENCES))
    return classification.examples(classification.split()[0])


def tune(
    framework: str,
    task: str,
    folder: str | os.PathLike,
    recipe: Recipe | None = None,
    examples: Examples | None = None,
    source: tuple[ModelConfig, Mapping[str, np.ndarray]] | None = None,
    command: str = "",
) -> None:
    """Train the model of a task and write TASK.safetensors and TASK.json, the losses, to a folder.

    recipe, examples: default: those of the book. source: as in `tfguide.tasks.tuned.untrained`. Prints the mean loss of
    each 20 steps. Raises ValueError as `untrained` and as `tfguide.tasks.examples.batch_at`.
    """
    config, weights = tuned.untrained(task, source)
    examples = training_examples(task) if examples is None else examples
    recipe, folder, guide = recipe or RECIPES[task], Path(folder), load_framework(framework)
    trainer = guide.Trainer(guide.from_weights(config, weights), recipe, tuned.trained_weights(config))
    losses = []
    for record in learn(trainer, batch_at(examples, recipe)):
        losses.append(round(record.loss, 4))
        if len(losses) % 20 == 0:
            print(f"step {len(losses):>4}  loss {sum(losses[-20:]) / 20:.4f}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    tuned.write(folder / f"{task}.safetensors", config, trainer.model.to_weights(), command)
    facts = {"framework": framework, "command": command, "versions": versions(), "recipe": asdict(recipe)}
    write_file(folder / f"{task}.json", json.dumps(facts | {"loss": losses}, separators=(",", ":")) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.training.tuning", description=__doc__)
    parser.add_argument("task", choices=tuple(tuned.HEADS))
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--out", default="tuned_models", metavar="FOLDER")
    options = parser.parse_args(arguments)
    own = shlex.join(["python", "-m", "tfguide.training.tuning", options.task, "--framework", options.framework])
    tune(options.framework, options.task, options.out, command=own)


if __name__ == "__main__":
    main()
