"""`tfguide bench decode` and `tfguide bench prefill`: time this package, and others in turn with it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tfguide.cli.checks import check_json_file
from tfguide.config import ModelConfig
from tfguide.loading import DTYPES, FRAMEWORKS


def add_commands(commands: Any) -> None:
    """Add the command with its two tasks to the subparsers of the command line."""
    bench = commands.add_parser("bench", help="time this package", description="Time this package against others.")
    tasks = bench.add_subparsers(required=True, metavar="task")
    for task, about in (("decode", "tokens a second after the prompt"), ("prefill", "seconds to read a prompt")):
        one = tasks.add_parser(task, help=about, description=f"Measure {about}.")
        one.set_defaults(run=run, task=task)
        one.add_argument("--peers", action="store_true", help="time Hugging Face, KerasHub and llama.cpp too")
        one.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=["torch"])
        one.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"])
        one.add_argument("--model", default="S", help="S (125M), M (1.1B), or a checkpoint folder; default: S")
        one.add_argument("--prompt", type=int, nargs="+", default=[128] if task == "decode" else [128, 1024])
        one.add_argument("--new-tokens", type=int, default=64)
        one.add_argument("--repeats", type=int, default=5, help="rounds that count, after 2 that do not; default: 5")
        one.add_argument("--memory", action="store_true", help="measure peak memory too, in separate processes")
        one.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        one.add_argument("--json", metavar="FILE", help="write the result to FILE")
        one.add_argument(
            "--measured", metavar="FILE", help="print predictions too, from what `tfguide calibrate --json FILE` wrote"
        )


def run(options: argparse.Namespace) -> int:
    """Print the rows of the benchmark, and the predictions where there is a calibration; returns 0."""
    from tfguide.bench import predict
    from tfguide.bench.contestants import check_config
    from tfguide.bench.models import find_model
    from tfguide.bench.run import bench, table, write_json

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _check_counts(options)
    config, folder = find_model(options.model)
    check_config(config)
    _check_fits(options, config)
    if options.device == "cuda":
        _check_cuda(options)
    check_json_file(options.json)
    known = predict.read_calibration(options.measured) if options.measured else []

    def keep(result):
        if options.json:
            write_json(result, options.json)
        last = result["rows"][-1]
        done = f"{last['framework']} {last['dtype']}, prompt of {last['prompt']}"
        print(f"tfguide: measured {done}; {len(result['rows'])} rows so far", file=sys.stderr)

    result = bench(
        options.task, config, options.framework, options.dtype, options.peers, options.prompt, options.new_tokens,
        options.repeats, options.device, options.memory, keep, folder,
    )  # fmt: skip
    print(table(result))
    if known:
        print(predict.table(predict.predictions(result, known)))
    return 0


def _check_counts(options):
    for name in ("new_tokens", "repeats"):
        least = 2 if name == "new_tokens" and options.task == "decode" else 1
        if getattr(options, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}")


def _check_fits(options, config: ModelConfig):
    longest = max(options.prompt) + options.new_tokens
    if min(options.prompt) < 1 or (config.max_positions is not None and longest > config.max_positions):
        raise ValueError(f"--prompt and --new-tokens must fit into {config.max_positions} positions, got {longest}")


def _check_cuda(options):
    import torch

    if options.framework != ["torch"] or set(options.dtype) & {"int8", "int4"}:
        raise ValueError("--device cuda is for --framework torch in float32, bfloat16 or float16")
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU here")
