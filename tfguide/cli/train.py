"""`tfguide train`: train a model of the book again, or one on texts of your own."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from functools import partial
from typing import Any

from tfguide.loading import FRAMEWORKS
from tfguide.tasks import translator
from tfguide.training import Recipe, show, summaries, summary, train_folder, translation

# What is trained: the run, and the recipe that made the model of the book.
TASKS = {
    "documentation": (train_folder, Recipe()),
    "translation": (translation.train_translation, translation.RECIPE),
    "translation-draft": (
        partial(translation.train_translation, config_of=translator.draft_config),
        translation.DRAFT_RECIPE,
    ),
    "summarisation": (summaries.train_summariser, summaries.RECIPE),
}
EXAMPLES = (("train a small model on Python's documentation", "tfguide train --framework torch --out documentation"),)


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    parser = commands.add_parser(
        "train",
        help="train a small model on Python's documentation, on the data of another task, or on texts of your own",
        description="Train a model of the book again, or one on texts of your own: a decoder of 4.2 million "
        "weights on Python's documentation, or the encoder-decoder of a task. The defaults of a task make its model.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="default: torch")
    parser.add_argument("--task", choices=TASKS, default="documentation", help="default: documentation")
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="where the model, its tokenizer and the curve are written"
    )
    parser.add_argument(
        "--text", metavar="PATH", help="a folder of .txt, .md and .rst files, or one file; of another task a file with "
        "a source, a tab and its target on each line, of summarisation a summary, a tab and its text; default: the "
        "documentation in the Python that runs, or the data of the task",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the run in FOLDER, in either framework")
    for field in dataclasses.fields(Recipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), metavar="N",
            help="default: " + _defaults(field.name),
        )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Train with a progress bar on stderr, where that is a terminal; print what is measured on the way; returns 0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    train, recipe = TASKS[options.task]
    given = {field.name: vars(options)[field.name] for field in dataclasses.fields(Recipe)}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in given.items() if value is not None})
    command = shlex.join(["tfguide", *sys.argv[1:]])
    for record in train(options.framework, options.out, recipe, options.text, options.resume, command):
        show(record, recipe, sys.stderr)
        if record.measured:
            print(summary(record), flush=True)
    return 0


def _defaults(name):
    """What each task takes for a number of the recipe, once where they agree."""
    values = {task: vars(recipe)[name] for task, (_, recipe) in TASKS.items()}
    if len(set(values.values())) == 1:
        return str(values["documentation"])
    return ", ".join(f"{value} for {task}" for task, value in values.items())
