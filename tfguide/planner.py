"""The commands `tfguide plan`, `tfguide models` and `tfguide chips`: the cost model on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from tfguide import cost
from tfguide.cost.chips import as_chip
from tfguide.cost.hub import find_model
from tfguide.cost.memory import ATTENTIONS, longest_context
from tfguide.dtypes import BITS, dtype_name
from tfguide.presets import PRESETS

SWEPT = ("batch", "context", "chips")
RESERVE = 0.1  # the part of a chip's memory that is kept for activations and programs
POINTS = 40  # of a sweep; more are thinned out on a logarithmic scale


def add_commands(commands: Any) -> None:
    """Add the three commands to the command line."""
    about = "what a model costs to serve on a chip"
    plan = commands.add_parser("plan", help=about, description=f"Tell {about}.")
    plan.set_defaults(run=run_plan)
    plan.add_argument("--model", required=True, help="a preset (see `tfguide models`), or a config.json or its folder")
    plan.add_argument("--chip", help="see `tfguide chips`")
    plan.add_argument("--chips", type=int, metavar="N", help="this many; the cheapest number unless told")
    plan.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once (1)")
    plan.add_argument("--context", type=int, default=2048, metavar="N", help="tokens of each (2048)")
    types = f"{', '.join(BITS)}, or what others call these: bf16, fp8, F8_E4M3, mxfp4"
    plan.add_argument("--weights", default="bfloat16", metavar="TYPE", help=f"{types} (bfloat16)")
    plan.add_argument("--kv", default="bfloat16", metavar="TYPE", help="type of the cache (bfloat16)")
    plan.add_argument("--layout", choices=cost.LAYOUTS, help="the cheapest unless told")
    plan.add_argument("--attention", choices=ATTENTIONS, help="what the cache is divided by; the cheapest unless told")
    plan.add_argument("--latency-ms", type=float, metavar="MS", help="the longest that a token may take")
    plan.add_argument("--sweep", metavar="NAME=A..B", help=f"go through {', '.join(SWEPT)} from A to B, and plot it")
    plan.add_argument("--plot", metavar="FILE", default="sweep.svg", help="where the plot goes (sweep.svg)")
    plan.add_argument("--json", action="store_true", help="print JSON in place of a table")
    plan.add_argument("--measured", metavar="FILE", help="this machine as `tfguide calibrate --json FILE` measured it")

    for name, run, about in (
        ("models", run_models, "the models that are known by name"),
        ("chips", run_chips, "the chips that are known by name"),
    ):
        parser = commands.add_parser(name, help=about, description=f"List {about}.")
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print JSON in place of a table")


def run_plan(options: argparse.Namespace) -> int:
    """Print what serving costs; 0. Raises ValueError for what does not fit or is not known."""
    config = find_model(options.model)
    chip = _chip(options)
    if options.sweep:
        return _sweep(options, config, chip)
    report = plan_report(options, config, chip)
    print(json.dumps(report, indent=2) if options.json else plan_table(options, report))
    return 0


def plan_report(options: argparse.Namespace, config, chip) -> dict[str, Any]:
    """Everything that the table shows, as plain numbers with their units in the names."""
    latency = None if options.latency_ms is None else options.latency_ms / 1e3
    chosen = cost.plan(
        config, chip, options.batch, options.context, latency, options.weights, options.kv, options.chips,
        reserve=RESERVE, layout=options.layout, attention=options.attention,
    )  # fmt: skip
    decode, prefill = chosen.decode, chosen.prefill
    n = cost.parameters(config)
    active = cost.active_parameters(config)
    used = cost.mfu(active, options.batch, decode.serial_s, decode.chips, chip.peak_flops)
    read = cost.mfu(active, options.batch * options.context, prefill.serial_s, decode.chips, chip.peak_flops)
    return {
        "model": str(options.model),
        "parameters": n,
        "active_parameters": active,
        "chip": chip.name,
        "chips": decode.chips,
        "mesh": list(decode.mesh),
        "layout": decode.layout,
        "attention": decode.attention,
        "batch": options.batch,
        "context": options.context,
        "weights": dtype_name(options.weights),
        "kv": dtype_name(options.kv),
        "memory_per_chip_bytes": {
            "weights": decode.weight_bytes_per_chip,
            "kv_cache": decode.kv_bytes_per_chip,
            "free": chip.hbm_bytes - decode.weight_bytes_per_chip - decode.kv_bytes_per_chip,
        },
        "max_positions": config.max_positions,
        "longest_context_tokens": _longest(config, chip, decode, options),
        "decode": _times(decode, used),
        "prefill": {**_times(prefill, read), "layout": prefill.layout, "mesh": list(prefill.mesh)},
    }


def plan_table(options: argparse.Namespace, report: dict[str, Any]) -> str:
    """The report for people."""
    memory, decode, prefill = report["memory_per_chip_bytes"], report["decode"], report["prefill"]
    total = sum(memory.values())
    several = report["chips"] > 1
    active = report["active_parameters"]
    trained = report["max_positions"]
    longer = [f"note: the model is made for {trained:,} positions"] if trained and report["context"] > trained else []
    of_them = f", {_count(active)} for a token" if active != report["parameters"] else ""
    where = f", mesh {' x '.join(map(str, report['mesh']))}, {report['layout']}, cache by {report['attention']}"
    lines = [
        f"{report['model']}: {_count(report['parameters'])} parameters{of_them}",
        f"{report['chips']} x {report['chip']}{where if several else ''}",
        f"batch {report['batch']}, context {report['context']:,}, weights {report['weights']}, cache {report['kv']}",
        *longer,
        "",
        "memory of each chip",
        *(f"  {name:<16}{n_bytes / 1e9:>10.2f} GB {n_bytes / total:>6.0%}" for name, n_bytes in memory.items()),
        f"  longest context that fits for this batch: {_tokens(report['longest_context_tokens'])}",
        "",
        f"{'time':<18}{'a token':>13}{'the prompt':>15}",
    ]
    for key, name in (
        ("compute_s", "compute"),
        ("weights_s", "read weights"),
        ("kv_s", "read cache"),
        ("communication_s", "communication"),
        ("serial_s", "all in turn"),
        ("roofline_s", "at best"),
    ):
        lines.append(f"  {name:<16}{1e3 * decode[key]:>10.3f} ms{1e3 * prefill[key]:>12.1f} ms")
    lines += [
        f"  {'tokens/s':<16}{decode['tokens_per_second']:>10,.0f}{prefill['tokens_per_second']:>15,.0f}",
        f"  {'MFU':<16}{decode['mfu']:>10.1%}{prefill['mfu']:>15.1%}",
        f"  {'chip-s / 10^6':<16}{decode['chip_seconds_per_million_tokens']:>10,.1f}"
        f"{prefill['chip_seconds_per_million_tokens']:>15,.1f}",
        "",
        "These are the least times that arithmetic, memory and links allow: all in turn, with nothing overlapped; at",
        "best, with arithmetic, reading and sending at once. Measured systems take 1.5 to 4 times as long as all in",
        "turn: norms, softmax, launching programs and waiting are not counted.",
    ]
    return "\n".join(lines)


def run_models(options: argparse.Namespace) -> int:
    """Print the presets; 0."""
    rows = {}
    for name in PRESETS:
        config = find_model(name)
        rows[name] = {
            "kind": config.kind,
            "parameters": cost.parameters(config),
            "active_parameters": cost.active_parameters(config),
            "kv_bytes_per_token_bf16": cost.kv_bytes_per_token(config),
            "max_positions": config.max_positions,
        }
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'model':<18}{'kind':<17}{'parameters':>11}{'active':>9}{'KV/token':>11}{'positions':>11}")
    for name, row in rows.items():
        active = row["active_parameters"]
        print(
            f"{name:<18}{row['kind']:<17}{_count(row['parameters']):>11}"
            f"{_count(active) if active != row['parameters'] else '':>9}"
            f"{row['kv_bytes_per_token_bf16'] / 1024:>7.1f} KiB{row['max_positions'] or '':>11}"
        )
    return 0


def run_chips(options: argparse.Namespace) -> int:
    """Print the chips; 0."""
    if options.json:
        print(json.dumps({name: dataclasses.asdict(chip) for name, chip in cost.CHIPS.items()}, indent=2))
        return 0
    print(f"{'chip':<10}{'bf16 TFLOP/s':>13}{'memory GB':>11}{'GB/s':>7}{'links GB/s':>12}{'FLOP/byte':>11}  source")
    for name, chip in cost.CHIPS.items():
        print(
            f"{name:<10}{chip.peak_flops / 1e12:>13,.1f}{chip.hbm_bytes / 1e9:>11.1f}{chip.hbm_bandwidth / 1e9:>7,.0f}"
            f"{chip.link_bandwidth / 1e9:>12,.0f}{chip.critical_intensity:>11.0f}  {chip.source}"
        )
    return 0


def _chip(options):
    if options.measured:
        from tfguide.bench.calibrate import read_machine

        return read_machine(options.measured, options.weights)
    if options.chip is None:
        raise ValueError("--chip is missing: name one of `tfguide chips`, or --measured FILE for this machine")
    return as_chip(options.chip)


def _times(one, used):
    names = ("compute_s", "weights_s", "kv_s", "communication_s", "serial_s", "roofline_s", "tokens_per_second")
    return {name: getattr(one, name) for name in (*names, "chip_seconds_per_million_tokens")} | {"mfu": used}


def _longest(config, chip, one, options):
    """The longest context that fits beside the weights, with `RESERVE` of the memory kept free."""
    room = (1 - RESERVE) * chip.hbm_bytes - one.weight_bytes_per_chip
    share = cost.kv_share(config, one.chips, one.attention, options.batch)
    return longest_context(config, options.batch, share, room, options.kv)


def _tokens(longest):
    return "any, since a sliding window ends the cache's growth" if longest is None else f"{longest:,} tokens"


def _sweep(options, config, chip):
    name, points = parse_sweep(options.sweep)
    rows, refused = [], {}
    for value in points:
        options.__dict__[name] = value
        try:
            rows.append((value, plan_report(options, config, chip)))
        except ValueError as error:
            refused[value] = str(error)
    if not rows:
        raise ValueError(f"no {name} from {points[0]} to {points[-1]} has a plan: {refused[points[0]]}")
    if options.json:
        print(json.dumps([report for _, report in rows], indent=2))
    else:
        print(f"{name:>9}{'chips':>7}{'ms/token':>10}{'tokens/s':>11}{'chip-s/10^6':>13}{'GB a chip':>11}")
        for value, report in rows:
            decode, memory = report["decode"], report["memory_per_chip_bytes"]
            print(
                f"{value:>9}{report['chips']:>7}{1e3 * decode['serial_s']:>10.3f}{decode['tokens_per_second']:>11,.0f}"
                f"{decode['chip_seconds_per_million_tokens']:>13,.1f}"
                f"{(memory['weights'] + memory['kv_cache']) / 1e9:>11.1f}"
            )
        if refused:
            print(
                f"{len(refused)} of {len(points)} do not fit, first at {name} {min(refused)}: {refused[min(refused)]}"
            )
    _plot(name, rows, f"{options.model} on {chip.name}", options.plot)
    if not options.json:
        print(f"plotted to {options.plot}")
    return 0


def parse_sweep(text: str) -> tuple[str, list[int]]:
    """A sweep "name=first..last" as its name and the values to try. Raises ValueError.

    >>> parse_sweep("batch=1..4")
    ('batch', [1, 2, 3, 4])
    """
    name, _, ends = text.partition("=")
    first, _, last = ends.partition("..")
    if name not in SWEPT or not first.isdigit() or not last.isdigit() or not 1 <= int(first) <= int(last):
        raise ValueError(f"--sweep must be {'|'.join(SWEPT)}=FIRST..LAST, counts from 1 on, got {text!r}")
    low, high = int(first), int(last)
    if name == "chips":
        return name, [2**i for i in range(20) if low <= 2**i <= high] or [low]
    if high - low < POINTS:
        return name, list(range(low, high + 1))
    ratio = (high / low) ** (1 / (POINTS - 1))
    return name, sorted({round(low * ratio**i) for i in range(POINTS)})


def _plot(name, rows, title, file):
    import matplotlib

    matplotlib.use("Agg")
    from tfguide.figures.cost import sweep

    points = [(value, 1e3 * r["decode"]["serial_s"], r["decode"]["tokens_per_second"], r["chips"]) for value, r in rows]
    sweep(name, points, title).savefig(file)


def _count(n: int) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if n >= unit:
            return f"{n / unit:.3g}{letter}"
    return str(n)
