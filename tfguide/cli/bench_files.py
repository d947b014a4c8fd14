"""`tfguide bench quantization` and `tfguide bench load`: what a file's weights are worth, and when it is ready."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tfguide.cli.checks import check_json_file, use_llama_cpp
from tfguide.loading import FRAMEWORKS, NONE, find_checkpoint


def add_tasks(tasks: Any) -> None:
    """Add both to the subparsers of `tfguide bench`."""
    quality = _add_task(tasks, "quantization", "perplexity, bits and speed of each type of weights", _quantization)
    quality.add_argument("--framework", choices=("torch", "tensorflow"), default="torch")
    quality.add_argument("--text", metavar="FILE", help="that is predicted, in UTF-8; default: Python's documentation")
    quality.add_argument("--tokens", type=int, default=4096, help="of the text that is predicted; default: 4096")
    quality.add_argument("--window", type=int, default=256, help="tokens that are read at once; default: 256")
    quality.add_argument(
        "--calibration", type=int, default=8192, metavar="TOKENS",
        help="of the text behind it, on which weights are calibrated; default: 8192",
    )  # fmt: skip
    quality.add_argument("--new-tokens", type=int, default=32, help="steps that are timed; default: 32")
    load = _add_task(tasks, "load", "seconds and memory up to the first token, and for prompts", _load)
    every = (NONE, *FRAMEWORKS)
    load.add_argument("--framework", choices=every, nargs="+", default=every, help="default: all")
    load.add_argument("--prompt", type=int, nargs="+", default=[128, 1024], help="default: 128 1024")


def _add_task(tasks, task, about, call):
    one = tasks.add_parser(task, help=about, description=f"Measure {about}.")
    one.set_defaults(run=run, measure=call)
    one.add_argument(
        "--model", metavar="PATH", help="a .gguf file or a checkpoint folder; default: SmolLM2-135M-Instruct"
    )
    one.add_argument("--peers", action="store_true", help="measure llama.cpp too")
    one.add_argument("--llama-cpp", metavar="FOLDER", help="a folder with the llama_cpp that is measured, a peer")
    one.add_argument("--repeats", type=int, default=5, help="rounds that count; default: 5")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE")
    return one


def run(options: argparse.Namespace) -> int:
    """Measure a model file and print the rows; returns 0."""
    from tfguide.bench.run import write_json

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    use_llama_cpp(options.llama_cpp, options.peers)
    check_json_file(options.json)
    path = find_checkpoint(options.model)

    def keep(result):
        if options.json:
            write_json(result | {"model": path.stem if path.is_file() else path.name}, options.json)

    print(options.measure(options, path, keep))
    return 0


def _quantization(options, path, keep):
    from tfguide.bench.models import read_config

    def say(result):
        keep(result)
        print(f"tfguide: measured {len(result['rows'])} types of weights", file=sys.stderr)

    measure = _vectors if read_config(path).kind == "encoder" else _perplexities
    return measure(options, path, say)


def _perplexities(options, path, say):
    from tfguide.bench.quality import bench_quantization, table
    from tfguide.tasks.text import topics
    from tfguide.text import read_tokenizer

    text, other = _split(options, read_tokenizer(path).encode(topics(options.text)).ids)
    return table(bench_quantization(
        path, text, other, options.window, options.framework, options.peers, options.new_tokens, options.repeats, say,
    ))  # fmt: skip


def _vectors(options, path, say):
    import numpy as np

    from tfguide.bench.vectors import bench_vectors, table
    from tfguide.tasks.text import topics
    from tfguide.text import read_tokenizer

    tokenizer = read_tokenizer(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text, other = _split(options, tokenizer.encode(topics(options.text), add_special_tokens=False).ids)
    rows = np.reshape(text[: len(text) // options.window * options.window], (-1, options.window))
    return table(bench_vectors(path, rows, other, options.framework, say))


def _split(options, tokens):
    """The first tokens, (n,), and those behind them that weights are calibrated on, in windows (N, T)."""
    import numpy as np

    rows = max(1, options.calibration // options.window)
    needed = options.tokens + rows * options.window
    if min(options.tokens, options.calibration) < 2 or needed > len(tokens):
        raise ValueError(f"--tokens and --calibration must be 2 to {len(tokens)} together, got {needed}")
    return tokens[: options.tokens], np.reshape(tokens[options.tokens : needed], (rows, options.window))


def _load(options, path, keep):
    from tfguide.bench.load import bench_load, table

    return table(bench_load(path, options.framework, options.peers, options.prompt, options.repeats, keep))
