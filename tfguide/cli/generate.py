"""`tfguide generate`: stream the text that continues a prompt."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from functools import partial
from typing import Any

from tfguide.cli.options import add_model_options, add_sampling_options, load, sampling_of, starting
from tfguide.cli.processes import add_parallel_option, in_processes
from tfguide.generation import stream
from tfguide.generation.sampling import GREEDY
from tfguide.loading import find_checkpoint, open_checkpoint
from tfguide.text import Counted, pieces, read_tokenizer

EXAMPLES = (
    ("continue a text", 'tfguide generate --prompt "The sky is blue because"'),
    ("the same by two processes together", 'tfguide generate --tensor-parallel 2 --prompt "The sky is blue because"'),
)


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    generate = commands.add_parser(
        "generate",
        help="stream the text that continues a prompt",
        description="Stream the text that continues a prompt.",
    )
    generate.set_defaults(run=run)
    generate.add_argument("--prompt", required=True, help="the text to continue")
    add_model_options(generate)
    add_sampling_options(generate, 64, GREEDY)
    add_parallel_option(generate)


def run(options: argparse.Namespace) -> int:
    """Print the text that continues the prompt as its tokens come, then the speed on stderr; returns 0."""
    sampling = sampling_of(options)
    if options.tensor_parallel is not None:
        return in_processes(options, partial(_generate, options, sampling))
    return _generate(options, sampling)


def _generate(options, sampling, group=None):
    """Print the text; of several processes the first one does, and all compute it."""
    with starting():
        checkpoint = open_checkpoint(find_checkpoint(options.checkpoint))
        tokenizer = read_tokenizer(checkpoint)
        prompt = tokenizer.encode(options.prompt).ids
        model = load(options, checkpoint, group)
    if group is not None:
        group.agree("the request", [prompt, options.max_new_tokens, options.stop, options.cache_dtype, repr(sampling)])
    tokens = stream(model, prompt, options.max_new_tokens, options.stop, sampling, cache_dtype=options.cache_dtype)
    if group is not None and group.rank:
        deque(tokens, maxlen=0)
        return 0
    # Where the text goes elsewhere, the terminal shows the progress. On one terminal they would write into each other.
    live = sys.stderr if sys.stderr.isatty() and not sys.stdout.isatty() else None
    counted = Counted(tokens, len(prompt), live)
    for text in pieces(tokenizer, prompt, counted):
        print(text, end="", flush=True)
    print(flush=True)
    print(counted.summary(), file=sys.stderr)
    return 0
