"""`tfguide plan`, `tfguide models` and `tfguide chips`: the cost model on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from tfguide import cost
from tfguide.cost import listings, report
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.hub import find_model
from tfguide.cost.memory import ATTENTIONS
from tfguide.dtypes import BITS

EXAMPLES = (
    ("what serving costs", "tfguide plan --model llama-3-8b --chip h100 --context 4096"),
    ("the models that are known by name", "tfguide models"),
    ("the chips that are known by name", "tfguide chips"),
)


def add_commands(commands: Any) -> None:
    """Add the three commands to the subparsers of the command line."""
    about = "what a model costs to serve on a chip"
    plan = commands.add_parser("plan", help=about, description=f"Print {about}.")
    plan.set_defaults(run=run_plan)
    plan.add_argument("--model", required=True, help="a preset (see `tfguide models`), or a config.json or its folder")
    plan.add_argument("--chip", help="see `tfguide chips`")
    plan.add_argument("--chips", type=int, metavar="N", help="how many chips; default: the cheapest number")
    plan.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once; default: 1")
    plan.add_argument("--context", type=int, default=2048, metavar="N", help="tokens of each sequence; default: 2048")
    types = f"{', '.join(BITS)}, or what others call these: bf16, fp8, F8_E4M3, mxfp4"
    plan.add_argument("--weights", default="bfloat16", metavar="TYPE", help=f"{types}; default: bfloat16")
    plan.add_argument("--kv", default="bfloat16", metavar="TYPE", help="type of the cache; default: bfloat16")
    plan.add_argument("--experts", metavar="TYPE", help="type of experts' matrices, such as mxfp4; default: --weights")
    plan.add_argument(
        "--products", default="bfloat16", metavar="TYPE",
        help="type in which matrices are multiplied, such as fp8 where the chip has it; default: bfloat16",
    )  # fmt: skip
    plan.add_argument("--memory", type=float, metavar="GB", help="of each chip; default: the largest that it has")
    plan.add_argument(
        "--layout", choices=cost.LAYOUTS, help="how weights are divided among chips; default: the cheapest"
    )
    plan.add_argument("--attention", choices=ATTENTIONS, help="what the cache is divided by; default: the cheapest")
    plan.add_argument("--latency-ms", type=float, metavar="MS", help="the longest that a token may take")
    plan.add_argument(
        "--sweep",
        metavar="NAME=A..B",
        help=f"plan for each value of NAME ({', '.join(report.SWEPT)}) from A to B, and plot",
    )
    plan.add_argument("--plot", metavar="FILE", default="sweep.svg", help="where the plot goes; default: sweep.svg")
    plan.add_argument("--json", action="store_true", help="print JSON instead of a table")
    plan.add_argument(
        "--measured", metavar="FILE", help="plan for this machine, as `tfguide calibrate --json FILE` measured it"
    )

    for name, run, about in (
        ("models", run_models, "the models that are known by name"),
        ("chips", run_chips, "the chips that are known by name"),
    ):
        parser = commands.add_parser(name, help=about, description=f"List {about}.")
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run_plan(options: argparse.Namespace) -> int:
    """Print what serving costs; returns 0. Raises ValueError for what does not fit or is not known."""
    config = find_model(options.model)
    chip = _chip(options)
    workload = report.Workload(
        batch=options.batch, context=options.context, weights=options.weights, kv=options.kv,
        latency_s=None if options.latency_ms is None else options.latency_ms / 1e3, chips=options.chips,
        layout=options.layout, attention=options.attention, experts=options.experts, products=options.products,
    )  # fmt: skip
    if options.sweep:
        return _sweep(options, config, chip, workload)
    found = report.plan_report(options.model, config, chip, workload)
    print(json.dumps(found, indent=2) if options.json else report.plan_table(found))
    return 0


def run_models(options: argparse.Namespace) -> int:
    """Print the presets; returns 0."""
    found = listings.models_report()
    print(json.dumps(found, indent=2) if options.json else listings.models_table(found))
    return 0


def run_chips(options: argparse.Namespace) -> int:
    """Print the chips; returns 0."""
    print(json.dumps(listings.chips_report(), indent=2) if options.json else listings.chips_table())
    return 0


def parse_sweep(text: str) -> tuple[str, list[int]]:
    """A sweep "name=first..last" as its name and the values to try. Raises ValueError.

    >>> parse_sweep("batch=1..4")
    ('batch', [1, 2, 3, 4])
    """
    name, _, ends = text.partition("=")
    first, _, last = ends.partition("..")
    if name not in report.SWEPT or not first.isdigit() or not last.isdigit() or not 1 <= int(first) <= int(last):
        raise ValueError(f"--sweep must be {'|'.join(report.SWEPT)}=FIRST..LAST, counts from 1 on, got {text!r}")
    return name, report.sweep_values(name, int(first), int(last))


def _chip(options) -> Chip:
    chip = _named_chip(options)
    return chip if options.memory is None else dataclasses.replace(chip, hbm_bytes=options.memory * 1e9)


def _named_chip(options) -> Chip:
    if options.measured:
        from tfguide.bench.calibrate import read_machine

        return read_machine(options.measured, options.weights)
    if options.chip is None:
        raise ValueError("--chip is missing: name one of `tfguide chips`, or --measured FILE for this machine")
    return as_chip(options.chip)


def _sweep(options, config, chip, workload):
    found = report.sweep(options.model, config, chip, workload, *parse_sweep(options.sweep))
    print(json.dumps(list(found.reports.values()), indent=2) if options.json else report.sweep_table(found))
    _plot(found, f"{options.model} on {chip.name}", options.plot)
    if not options.json:
        print(f"plotted to {options.plot}")
    return 0


def _plot(found, title, file):
    import matplotlib

    matplotlib.use("Agg")
    from tfguide.figures.cost import sweep

    sweep(found.name, found.points(), title).savefig(file)
