"""What serving a model costs, as plain values and as tables of text: one workload, or a sweep over several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tfguide.checks.values import check_choice, check_count, make_plain
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip, as_chip
from tfguide.cost.listings import short_count
from tfguide.cost.memory import kv_share, longest_context
from tfguide.cost.parameters import active_parameters, experts_read, parameters
from tfguide.cost.plan import plan
from tfguide.cost.step import Step
from tfguide.dtypes import dtype_name

SWEPT = ("batch", "context", "chips")
POINTS = 40  # of a sweep; more are thinned out on a logarithmic scale


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a model is asked to serve, and what the choice of chips and layout is held to: the arguments of `plan`.

    batch: sequences at once; context: tokens of each; weights, kv: types, see `tfguide.dtypes`; experts, products:
    the types of experts' matrices and of products, as in `step`; latency_s: the longest that a token may take, in
    seconds; chips, layout, attention: default: the cheapest; reserve: the part of each chip's memory that is kept for
    activations and programs. `plan` checks the values.
    """

    batch: int = 1
    context: int = 2048
    weights: str = "bfloat16"
    kv: str = "bfloat16"
    latency_s: float | None = None
    chips: int | None = None
    layout: str | None = None
    attention: str | None = None
    reserve: float = 0.1
    experts: str | None = None
    products: str = "bfloat16"

    def __post_init__(self):
        make_plain(self)


@dataclass(frozen=True)
class Sweep:
    """The plans of several workloads that differ in one count.

    name: one of SWEPT; reports: what `plan_report` returned, by the value of that count; refused: why there is no plan,
    by the values that have none.
    """

    name: str
    reports: Mapping[int, dict[str, Any]]
    refused: Mapping[int, str]

    def points(self) -> list[tuple[int, float, float, int]]:
        """For a plot: the value, milliseconds of a token, tokens a second, chips."""
        steps = [(value, report["decode"], report["chips"]) for value, report in self.reports.items()]
        return [(value, 1e3 * step["serial_s"], step["tokens_per_second"], chips) for value, step, chips in steps]


def plan_report(model: str | os.PathLike, config: ModelConfig, chip: Chip | str, workload: Workload) -> dict[str, Any]:
    """Everything that `plan_table` shows, as plain values for JSON with their units in the names.

    model: what the report calls the configuration. Raises ValueError as `plan`.
    """
    chip, asked = as_chip(chip), workload
    chosen = plan(
        config, chip, asked.batch, asked.context, asked.latency_s, asked.weights, asked.kv, asked.chips,
        reserve=asked.reserve, layout=asked.layout, attention=asked.attention, experts=asked.experts,
        products=asked.products,
    )  # fmt: skip
    decode, prefill = chosen.decode, chosen.prefill
    active = active_parameters(config)
    return {
        "model": str(model),
        "parameters": parameters(config),
        "active_parameters": active,
        "chip": chip.name,
        "chips": decode.chips,
        "mesh": list(decode.mesh),
        "layout": decode.layout,
        "attention": decode.attention,
        "batch": asked.batch,
        "context": asked.context,
        "weights": dtype_name(asked.weights),
        "kv": dtype_name(asked.kv),
        "experts": asked.experts,
        "products": dtype_name(asked.products),
        "experts_read": experts_read(config, asked.batch) if config.experts else None,
        "experts_of_a_layer": config.experts.n_experts if config.experts else None,
        "memory_per_chip_bytes": {
            "weights": decode.weight_bytes_per_chip,
            "kv_cache": decode.kv_bytes_per_chip,
            "free": chip.hbm_bytes - decode.weight_bytes_per_chip - decode.kv_bytes_per_chip,
        },
        "max_positions": config.max_positions,
        "longest_context_tokens": _longest(config, chip, decode, asked),
        "decode": _times(decode),
        "prefill": prefill and _times(prefill) | {"layout": prefill.layout, "mesh": list(prefill.mesh)},
    }


def plan_table(report: Mapping[str, Any]) -> str:
    """What `plan_report` returned, as text."""
    active, trained, longest = (
        report[name] for name in ("active_parameters", "max_positions", "longest_context_tokens")
    )
    where = f", mesh {' x '.join(map(str, report['mesh']))}, {report['layout']}, cache by {report['attention']}"
    lines = [
        f"{report['model']}: {short_count(report['parameters'])} parameters"
        + (f", {short_count(active)} for a token" if active != report["parameters"] else ""),
        f"{report['chips']} x {report['chip']}{where if report['chips'] > 1 else ''}",
        f"batch {report['batch']}, context {report['context']:,}, weights {report['weights']}, cache {report['kv']}"
        + (f", experts {report['experts']}" if report["experts"] else "")
        + (f", products {report['products']}" if report["products"] != "bfloat16" else ""),
    ]
    if report["experts_read"] is not None:
        n = report["experts_of_a_layer"]
        lines.append(f"a step reads {report['experts_read']:.1f} of the {n} experts of a layer, on average")
    if trained and report["context"] > trained:
        lines.append(f"note: the model is made for {trained:,} positions")
    fits = "any, since a sliding window ends the cache's growth" if longest is None else f"{longest:,} tokens"
    memory = report["memory_per_chip_bytes"]
    total = sum(memory.values())
    lines += [
        "",
        "memory of each chip",
        *(f"  {name:<16}{n_bytes / 1e9:>10.2f} GB {n_bytes / total:>6.0%}" for name, n_bytes in memory.items()),
        f"  longest context that fits for this batch: {fits}",
        "",
        *_time_lines(report["decode"], report["prefill"]),
        "",
        "These are the least times that arithmetic, memory and links allow: all in turn, with nothing overlapped; at",
        "best, with arithmetic, reading and sending at once. Measured systems take 1.5 to 4 times as long as all in",
        "turn: norms, softmax, launching programs and waiting are not counted.",
    ]
    return "\n".join(lines)


def sweep(
    model: str | os.PathLike,
    config: ModelConfig,
    chip: Chip | str,
    workload: Workload,
    name: str,
    values: Sequence[int],
) -> Sweep:
    """The plan of a workload for each value of one of its counts.

    name: one of SWEPT. Raises ValueError for another one, for values below 1, and where no value has a plan.
    """
    check_choice("name", name, SWEPT)
    values = [check_count(name, value) for value in values]
    reports, refused = {}, {}
    for value in values:
        try:
            reports[value] = plan_report(model, config, chip, replace(workload, **{name: value}))
        except ValueError as error:
            refused[value] = str(error)
    if not reports:
        raise ValueError(f"no {name} from {values[0]} to {values[-1]} has a plan: {refused[values[0]]}")
    return Sweep(name, reports, refused)


def sweep_values(name: str, first: int, last: int) -> list[int]:
    """The values of a sweep: powers of 2 for chips, else every count where they are few, 40 at equal ratios if not.

    name: one of SWEPT. Raises ValueError for counts below 1, or out of order.

    >>> sweep_values("chips", 1, 9)
    [1, 2, 4, 8]
    """
    check_choice("name", name, SWEPT)
    first = check_count("first", first)
    last = check_count("last", last, least=first)
    if name == "chips":
        return [2**i for i in range(20) if first <= 2**i <= last] or [first]
    if last - first < POINTS:
        return list(range(first, last + 1))
    ratio = (last / first) ** (1 / (POINTS - 1))
    return sorted({round(first * ratio**i) for i in range(POINTS)})


def sweep_table(found: Sweep) -> str:
    """A sweep as text, one line for each plan."""
    lines = [f"{found.name:>9}{'chips':>7}{'ms/token':>10}{'tokens/s':>11}{'chip-s/10^6':>13}{'GB a chip':>11}"]
    for value, report in found.reports.items():
        decode, memory = report["decode"], report["memory_per_chip_bytes"]
        lines.append(
            f"{value:>9}{report['chips']:>7}{1e3 * decode['serial_s']:>10.3f}{decode['tokens_per_second']:>11,.0f}"
            f"{decode['chip_seconds_per_million_tokens']:>13,.1f}"
            f"{(memory['weights'] + memory['kv_cache']) / 1e9:>11.1f}"
        )
    if found.refused:
        least, n = min(found.refused), len(found.refused) + len(found.reports)
        lines.append(f"{len(found.refused)} of {n} do not fit, first at {found.name} {least}: {found.refused[least]}")
    return "\n".join(lines)


def _times(one: Step) -> dict[str, float | None]:
    names = ("compute_s", "weights_s", "kv_s", "communication_s", "serial_s", "roofline_s", "tokens_per_second")
    times = {name: getattr(one, name) for name in (*names, "chip_seconds_per_million_tokens")}
    return times | {"mfu": one.utilization}


def _time_lines(decode, prefill):
    if prefill is None:
        yield from _lines_of_reading(decode)
        return
    yield f"{'time':<18}{'a token':>13}{'the prompt':>15}"
    for key, name in (
        ("compute_s", "compute"),
        ("weights_s", "read weights"),
        ("kv_s", "read cache"),
        ("communication_s", "communication"),
        ("serial_s", "all in turn"),
        ("roofline_s", "at best"),
    ):
        yield f"  {name:<16}{1e3 * decode[key]:>10.3f} ms{1e3 * prefill[key]:>12.1f} ms"
    yield f"  {'tokens/s':<16}{decode['tokens_per_second']:>10,.0f}{prefill['tokens_per_second']:>15,.0f}"
    yield f"  {'MFU':<16}{decode['mfu']:>10.1%}{prefill['mfu']:>15.1%}"
    cost = "chip_seconds_per_million_tokens"
    yield f"  {'chip-s / 10^6':<16}{decode[cost]:>10,.1f}{prefill[cost]:>15,.1f}"


def _lines_of_reading(decode):
    """The lines for a chip whose rate of products is not known: a prompt's time is mostly arithmetic."""
    yield f"{'time':<18}{'a token':>13}"
    for key, name in (("weights_s", "read weights"), ("kv_s", "read cache"), ("serial_s", "together")):
        yield f"  {name:<16}{1e3 * decode[key]:>10.3f} ms"
    yield f"  {'tokens/s':<16}{decode['tokens_per_second']:>10,.0f}"
    yield "the chip's rate of products is not published: arithmetic is not counted, and no prompt is planned"


def _longest(config, chip, one, workload):
    """The longest context that fits beside the weights, with the reserve of the memory kept free."""
    room = (1 - workload.reserve) * chip.hbm_bytes - one.weight_bytes_per_chip
    share = kv_share(config, one.chips, one.attention, workload.batch)
    return longest_context(config, workload.batch, share, room, workload.kv)
