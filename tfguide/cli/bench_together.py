"""`tfguide bench waterfall`: from the naive program to the fast one, and what a step of the fast one consists of."""

from __future__ import annotations

import argparse
import os
from typing import Any

from tfguide.cli.checks import check_json_file
from tfguide.loading import DTYPES, FRAMEWORKS, find_checkpoint


def add_waterfall(tasks: Any) -> None:
    """Add it to the subparsers of `tfguide bench`."""
    about = "a token by the naive program, then with one technique after another, and what is left of the gap"
    one = tasks.add_parser("waterfall", help=about, description=f"Measure {about}.")
    one.set_defaults(run=run)
    one.add_argument("--part", choices=("ladder", "gap"), nargs="+", default=["ladder", "gap"], help="default: both")
    one.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=list(FRAMEWORKS), help="default: both")
    one.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32", "bfloat16", "int8", "int4"])
    one.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    one.add_argument("--prompt", type=int, default=256, help="tokens of the text before the steps; default: 256")
    one.add_argument("--lengths", type=int, nargs=2, default=[128, 2000], help="of the gap; default: 128 2000")
    one.add_argument("--new-tokens", type=int, default=16, help="steps of a round; default: 16")
    one.add_argument("--repeats", type=int, default=5, help="rounds that count; default: 5")
    one.add_argument("--no-compile", action="store_true", help="leave out the compiled steps, which take a minute")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE; the part that is not measured is kept")


def run(options: argparse.Namespace) -> int:
    """Print the parts that were asked for; returns 0."""
    from tfguide.bench import gap, waterfall
    from tfguide.bench.caches import read_documentation
    from tfguide.bench.models import read_config
    from tfguide.bench.run import read_result, write_json
    from tfguide.bench.timing import machine

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("prompt", "new_tokens", "repeats"):
        if vars(options)[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {vars(options)[name]}")
    check_json_file(options.json)
    path = find_checkpoint(options.model)

    def keep(found):
        if options.json:
            write_json(read_result(options.json) | found | {"model": path.name}, options.json)

    if "ladder" in options.part:
        tokens = read_documentation(path, options.prompt)[: options.prompt]
        rungs = waterfall.ladder(options.framework, options.dtype, not options.no_compile)
        result = waterfall.bench_waterfall(path, tokens, rungs, options.new_tokens, options.repeats, keep=keep)
        print(waterfall.table(result))
    if "gap" in options.part:
        config, about = read_config(path), machine()
        rows = gap.bench_gap(
            config, options.dtype, options.framework[0], options.lengths, options.new_tokens, options.repeats,
            lambda rows: keep({"task": "waterfall", "gap": rows, "gap_machine": about}),
        )  # fmt: skip
        print(gap.table(rows))
    return 0
