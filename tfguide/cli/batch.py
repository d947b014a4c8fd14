"""`tfguide batch`: answer the lines of a file, many at once, and go on where an interrupted run stopped."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from functools import partial
from typing import Any

from tfguide.checks.values import check_count
from tfguide.cli.options import (
    add_model_options,
    add_ray_options,
    add_sampling_options,
    load,
    replicas_of,
    sampling_of,
    starting,
)  # fmt: skip
from tfguide.generation.sampling import GREEDY
from tfguide.loading import find_checkpoint, open_checkpoint
from tfguide.text import read_template, read_tokenizer

EXAMPLES = (("answer a file of prompts", "tfguide batch --input prompts.jsonl --output answers.jsonl"),)
ABOUT = """\
Answer the lines of a file of JSON objects, many at once. A line has a prompt, which is a text or a list of token ids,
or messages for the model's chat template:
  {"prompt": "The sky is", "id": "a", "max_tokens": 20, "temperature": 0.7, "seed": 3, "stop": ["."], "n": 2}
  {"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
All but the prompt or the messages may be left out; top_k, top_p, min_p, repetition_penalty, stop_token_ids and
ignore_eos are known as well, and all have the meanings that `tfguide serve` gives them. Lines of OpenAI's batch files
(custom_id, method, url, body) are answered in their form.

Answers are written as they end, each with the number of its line. Where the output exists already, the lines that it
answers are passed over, so the same command goes on with an interrupted run. The status is 1 if a line had an error.

With --ray, --replicas N engines share the lines, on the Ray cluster that RAY_ADDRESS names or on this machine. Each
loads the model, which must lie at the same path on every machine; prefixes are shared within a replica only. The file
is the same but for the order of its lines."""
EVERY = {True: 0.2, False: 10.0}  # seconds between two bars on a terminal, and between two lines elsewhere


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    batch = commands.add_parser(
        "batch", help="answer a file of prompts", description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    batch.set_defaults(run=run)
    batch.add_argument("--input", required=True, metavar="FILE", help="a line of JSON for each prompt")
    batch.add_argument("--output", required=True, metavar="FILE", help="where answers are written, a line for each")
    batch.add_argument("--rows", type=int, default=64, metavar="N", help="texts that are written at once; default: 64")
    add_ray_options(batch)
    add_model_options(batch)
    add_sampling_options(batch, 256, GREEDY)


def run(options: argparse.Namespace) -> int:
    """Answer the lines with a progress bar on stderr; returns 1 if one had an error, 130 for an interrupt, else 0."""
    check_count("--rows", options.rows)
    with _start(options) as batch:
        return _run(options, batch)


def _run(options, batch):
    shown, is_live = time.monotonic(), sys.stderr.isatty()
    try:
        for ended in batch.run():
            for one in ended:
                if one.error is not None:
                    _say(f"tfguide: {options.input}, line {one.number}: {one.error}", is_live)
            if time.monotonic() - shown > EVERY[is_live]:
                shown = time.monotonic()
                print(f"\r{batch.progress.bar()}\033[K" if is_live else batch.progress.summary(),
                      end="" if is_live else "\n", file=sys.stderr, flush=True)  # fmt: skip
    except KeyboardInterrupt:
        _say(f"{batch.progress.summary()}\ntfguide: interrupted; the same command goes on", is_live)
        return 130
    _say(batch.progress.summary(), is_live)
    return 1 if batch.progress.n_errors else 0


@contextlib.contextmanager
def _start(options):
    """The batch: on a cluster, which ends with the block, or here."""
    from tfguide.serving.batch import Batch
    from tfguide.serving.lines import Settings

    replicas, path = replicas_of(options), find_checkpoint(options.checkpoint)
    settings = Settings(
        options.max_new_tokens, sampling_of(options), None if options.stop is None else tuple(options.stop), path.stem,
        (options.dtype, options.cache_dtype),
    )  # fmt: skip
    files = options.input, options.output
    if replicas is None:
        yield Batch(_load(options, path, settings), *files)
        return
    from tfguide.serving.cluster import cluster
    from tfguide.serving.crew import Crew

    with cluster(replicas, options.cpus) as share:
        make = partial(_load, options, path, settings)
        yield Crew(make, settings, *files, replicas, share, options.rows)


def _load(options, path, settings):
    """The engine and what reads lines."""
    from tfguide.serving import Engine
    from tfguide.serving.desk import Desk
    from tfguide.serving.lines import Reader

    with starting():
        checkpoint = open_checkpoint(path)
        tokenizer, template = read_tokenizer(checkpoint), _find_template(checkpoint)
        model = load(options, checkpoint)
    engine = Engine(model, rows=options.rows, cache_dtype=options.cache_dtype)
    reader = Reader(tokenizer, template, model.config.eos_token_ids, engine.scheduler.max_length, settings)
    return Desk(engine, reader)


def _find_template(checkpoint):
    """The chat template, None where there is none: a file of prompts needs none."""
    try:
        return read_template(checkpoint)
    except ValueError:
        return None


def _say(line, is_live):
    """Print a line on stderr, in the place of the bar."""
    print(("\r\033[K" if is_live else "") + line, file=sys.stderr, flush=True)
