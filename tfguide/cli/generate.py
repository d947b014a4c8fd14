"""`tfguide generate`: stream text from a checkpoint folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tfguide.dtypes import CACHE_DTYPES
from tfguide.generation.sampling import Sampling
from tfguide.loading import DTYPES, FRAMEWORKS, load_framework, load_model, try_accelerate
from tfguide.text import Counted, pieces, read_tokenizer


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    generate = commands.add_parser("generate", help="stream text from a checkpoint", description="Stream text.")
    generate.set_defaults(run=run)
    generate.add_argument(
        "--checkpoint",
        required=True,
        metavar="FOLDER",
        help="a folder with config.json, safetensors and tokenizer.json",
    )
    generate.add_argument("--prompt", required=True, help="the text to continue")
    generate.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    generate.add_argument(
        "--dtype", choices=DTYPES, help="type of the weights; default: float32, or what a quantised folder holds"
    )
    generate.add_argument(
        "--cache-dtype",
        choices=CACHE_DTYPES,
        help="type of the cached keys and values; default: that of the weights, float16 where they are quantised",
    )
    generate.add_argument("--max-new-tokens", type=int, default=64, metavar="N")
    generate.add_argument("--temperature", type=float, default=0.0, help="default: 0, which takes the likeliest token")
    for name, kind in (("top-k", int), ("top-p", float), ("min-p", float), ("repetition-penalty", float)):
        generate.add_argument(f"--{name}", type=kind)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--stop", type=int, nargs="*", metavar="TOKEN", help="token ids that end the text")
    generate.add_argument(
        "--ignore", action="append", default=[], metavar="KEY",
        help='a key of config.json to pass over, where you know that it does not matter ("outer.inner" inside another)',
    )  # fmt: skip
    generate.add_argument("--plain", action="store_true", help="run the readable model, without the C++ kernels")


def run(options: argparse.Namespace) -> int:
    """Print the text that continues the prompt as its tokens come, then the speed on stderr; returns 0."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tokenizer = read_tokenizer(options.checkpoint)
    sampling = Sampling(
        temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p,
        repetition_penalty=options.repetition_penalty, seed=options.seed,
    )  # fmt: skip
    prompt = tokenizer.encode(options.prompt).ids
    tg = load_framework(options.framework)
    with _warnings_printed():
        model = load_model(tg, options.checkpoint, options.dtype, options.ignore)
    if not options.plain:
        with _warnings_printed():
            model = try_accelerate(tg, model)
    tokens = tg.stream(model, prompt, options.max_new_tokens, options.stop, sampling, cache_dtype=options.cache_dtype)
    # Where the text goes elsewhere, the terminal shows the progress. On one terminal they would write into each other.
    live = sys.stderr if sys.stderr.isatty() and not sys.stdout.isatty() else None
    counted = Counted(tokens, len(prompt), live)
    for text in pieces(tokenizer, prompt, counted):
        print(text, end="", flush=True)
    print(flush=True)
    print(counted.summary(), file=sys.stderr)
    return 0


@contextlib.contextmanager
def _warnings_printed() -> Iterator[None]:
    """Print the warnings of a block as the command's own messages, after it has succeeded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        print(f"tfguide: {warning.message}", file=sys.stderr)
