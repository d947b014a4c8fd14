"""`tfguide train`: train the book's model again, or a model of texts of your own."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from typing import Any

from tfguide.loading import FRAMEWORKS
from tfguide.training import Recipe, show, summary, train_folder

EXAMPLES = (("train a small model on Python's documentation", "tfguide train --framework torch --out documentation"),)


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    parser = commands.add_parser(
        "train",
        help="train a small model on Python's documentation, or on texts of your own",
        description="Train a decoder of 4.2 million weights on Python's documentation, or on texts of your own. The "
        "defaults make the model that comes with the book.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="default: torch")
    parser.add_argument(
        "--out", metavar="FOLDER", required=True, help="where the model, its tokenizer and the curve are written"
    )
    parser.add_argument(
        "--text", metavar="PATH", help="a folder of .txt, .md and .rst files, or one file; default: the documentation "
        "in the Python that runs",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on with the run in FOLDER, in either framework")
    for field in dataclasses.fields(Recipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, metavar="N",
            help=f"default: {field.default}",
        )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Train with a progress bar on stderr, where that is a terminal; print each perplexity and a summary; returns 0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    recipe = Recipe(**{field.name: vars(options)[field.name] for field in dataclasses.fields(Recipe)})
    command = shlex.join(["tfguide", *sys.argv[1:]])
    for record in train_folder(options.framework, options.out, recipe, options.text, options.resume, command):
        show(record, recipe, sys.stderr)
        if record.measured:
            print(summary(record), flush=True)
    return 0
