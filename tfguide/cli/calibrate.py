"""`tfguide calibrate`: measure this machine for the cost model."""

from __future__ import annotations

import argparse
import os
from typing import Any

from tfguide.cli.checks import check_json_file
from tfguide.loading import FRAMEWORKS

EXAMPLES = (("measure this machine", "tfguide calibrate --json machine.json"),)


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    measure = commands.add_parser("calibrate", help="measure this machine", description="Measure this machine.")
    measure.set_defaults(run=run)
    measure.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=["torch"])
    measure.add_argument("--dtype", choices=("float32", "bfloat16"), nargs="+", default=["float32", "bfloat16"])
    measure.add_argument("--json", metavar="FILE", help="write the result to FILE, for `tfguide plan --measured FILE`")


def run(options: argparse.Namespace) -> int:
    """Print what was measured; returns 0."""
    from tfguide.bench.calibrate import calibrate, table
    from tfguide.bench.run import write_json

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    check_json_file(options.json)
    result = calibrate(options.framework, options.dtype)
    if options.json:
        write_json(result, options.json)
    print(table(result))
    return 0
