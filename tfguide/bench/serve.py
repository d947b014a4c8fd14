"""`tfguide bench serve`: servers under an open loop of requests, by the rate at which they arrive.

Latencies begin when a request was due, not when it was sent, so that a client that is late hides nothing.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from tfguide.bench.clients import Outcome
from tfguide.bench.timing import machine, show_machine
from tfguide.bench.workload import ANSWER, ANSWERS, PROMPTS, SHORTEST, Task, prompts, tasks
from tfguide.checks.values import check_count, check_number

TTFT, TPOT = 1.0, 0.1  # seconds to the first token, and of each further one, at most: a request that keeps both is good
LATE = 0.01  # seconds after its time, from which on a request counts as sent late
PERCENTILES = (50, 90, 99)
SHARED = 1000  # tokens of a prompt that two requests share
QUESTION = 20  # tokens behind it


class Running(Protocol):
    """A server that is ready: sends it requests when they are due, and says what became of each."""

    def __call__(self, tasks: Sequence[Task]) -> list[Outcome]: ...


class Contestant(Protocol):
    """What can be measured. `start` makes it ready, with nothing cached, until the block ends."""

    name: str

    def start(self) -> AbstractContextManager[Running]: ...


def bench_serve(
    contestants: Sequence[Contestant],
    tokenizer: Any,
    rates: Sequence[float],
    seconds: float = 60.0,
    seed: int = 0,
    most: int = 1000,
    enough: float = 0.5,
    keep: Callable[[dict], None] = lambda result: None,
) -> dict[str, Any]:
    """A row for each rate and contestant; the contestants take turns at each rate, and each is started anew for it.

    rates: arrivals a second, ascending. seconds: how long requests arrive. most: the tokens of a prompt or an answer at
    most. enough: a contestant whose goodput has fallen below this share is not measured at higher rates. keep: is given
    the result after every row. A contestant that fails has a row with an "error", and no more rows. See `measure` for a
    row. Raises TypeError and ValueError for numbers that are out of range.
    """
    rates = sorted(rates)
    for rate in rates:
        check_number("rates", rate, above=0)
    check_number("seconds", seconds, above=0)
    settings = {
        "rates": list(rates), "seconds": seconds, "seed": seed, "most": check_count("most", most, least=ANSWERS[0]),
        "prompts": [SHORTEST, *PROMPTS], "answers": {"mean": ANSWER, "least_and_most": ANSWERS},
        "ttft": TTFT, "tpot": TPOT, "late": LATE,
    }  # fmt: skip
    result: dict[str, Any] = {"task": "serve", "machine": machine(), "limits": {}, "settings": settings, "rows": []}
    left = list(contestants)
    for step, rate in enumerate(rates):
        work = tasks(tokenizer, rate, seconds, seed, step, most)
        for contestant in list(left):
            row: dict[str, Any] = {"name": contestant.name, "rate": rate}
            try:
                with contestant.start() as running:
                    row |= measure(running(work), seconds)
            except Exception as error:  # the others are still worth measuring, and the row says what happened
                row["error"] = f"{type(error).__name__}: {error}"
            if row.get("goodput", 0.0) < enough:
                left.remove(contestant)
            result["rows"].append(row)
            keep(result)
    return result


def measure(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """What became of the requests of a run.

    seconds: how long requests arrived. "requests": how many; "failures": of them, with "errors", {why: how many};
    "late": sent more than LATE seconds after their time. Of those that were answered, {"p50", "p90", "p99"}: "ttft",
    from the time when it was due to the first token; "latency", to the last one; "tpot", (latency - ttft) / (tokens -
    1), of more than one token. "tokens": of all answers; "tokens_per_second": those that came while requests arrived,
    as if the tokens of an answer came evenly; "lasted": the seconds to the last of all. "goodput": the share of all
    requests that were answered with a ttft up to TTFT and a tpot up to TPOT; "good_per_second": how many of them
    arrived in a second.
    """
    done = [one for one in outcomes if one.error is None]
    ttft = [one.first - one.at for one in done]
    latency = [one.last - one.at for one in done]
    tpot = [None if one.n_new < 2 else (one.last - one.first) / (one.n_new - 1) for one in done]
    good = sum(first <= TTFT and (each is None or each <= TPOT) for first, each in zip(ttft, tpot, strict=True))
    return {
        "requests": len(outcomes), "failures": len(outcomes) - len(done),
        "errors": dict(Counter(one.error for one in outcomes if one.error is not None)),
        "late": sum(one.sent - one.at > LATE for one in outcomes),
        "most_late": max((one.sent - one.at for one in outcomes), default=0.0),
        "ttft": _percentiles(ttft), "tpot": _percentiles([each for each in tpot if each is not None]),
        "latency": _percentiles(latency), "tokens": sum(one.n_new for one in done),
        "tokens_per_second": sum(_tokens_until(one, seconds) for one in done) / seconds,
        "lasted": max([seconds, *(one.last for one in done)]),
        "goodput": good / max(1, len(outcomes)), "good_per_second": good / seconds,
    }  # fmt: skip


def _tokens_until(one, seconds):
    """The tokens of an answer that came before a time, as if they came evenly."""
    if one.last <= seconds:
        return one.n_new
    return 1 + (one.n_new - 1) * (seconds - one.first) / (one.last - one.first) if one.first < seconds else 0


def _percentiles(values):
    """{"p50": ..., ...} of some values, linear between two; None where there are none."""
    return {f"p{p}": float(np.percentile(values, p)) if values else None for p in PERCENTILES}


def knee(rows: Sequence[Mapping[str, Any]], name: str, share: float = 0.9) -> float | None:
    """The rate up to which a contestant's goodput stays at least at `share`, linear between two measured rates.

    None where it is below at the lowest rate. Where it never falls below, the highest rate that was measured.
    """
    own = sorted((row["rate"], row["goodput"]) for row in rows if row["name"] == name and "goodput" in row)
    before = None
    for rate, goodput in own:
        if goodput < share:
            return before and before[0] + (rate - before[0]) * (before[1] - share) / (before[1] - goodput)
        before = rate, goodput
    return before and before[0]


def bench_prefix(contestants: Sequence[Contestant], tokenizer: Any, repeats: int = 5, seed: int = 0) -> list[dict]:
    """How much sooner the first token comes if the prompt's beginning is known: a row for each contestant.

    Each round has a text of SHARED tokens that the server has not seen, and sends it twice, one after the other, with
    other QUESTION tokens behind it. "cold" and "warm": the median seconds to the first token; "times": the median of
    their ratios. Raises TypeError and ValueError for `repeats` below 1.
    """
    check_count("repeats", repeats)
    found = [text for text, _ in prompts(tokenizer, [SHARED] * repeats + [QUESTION] * (2 * repeats), seed)]
    texts, ends = found[:repeats], found[repeats:]
    rows = []
    for contestant in contestants:
        row: dict[str, Any] = {"name": contestant.name, "shared": SHARED, "question": QUESTION, "repeats": repeats}
        try:
            with contestant.start() as running:
                pairs = [
                    [_first_token(running, f"{text}\n\n{ends[2 * i + k]}") for k in range(2)]
                    for i, text in enumerate(texts)
                ]
        except Exception as error:  # as in `bench_serve`
            rows.append(row | {"error": f"{type(error).__name__}: {error}"})
            continue
        cold, warm = zip(*pairs, strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append(row | {"cold": statistics.median(cold), "warm": statistics.median(warm), "times": ratio})
    return rows


def _first_token(running, prompt):
    (outcome,) = running([Task(0.0, prompt, 0, 2)])
    if outcome.error is not None:
        raise RuntimeError(outcome.error)
    return outcome.first - outcome.sent


def table(result: Mapping[str, Any]) -> str:
    """The rows as lines of text, the contestants side by side at each rate."""
    lines = [show_machine(result)]
    if result["rows"]:
        head = f"{'a second':>9}  {'':16}{'requests':>9}{'failed':>7}{'late':>5}{'good':>6}{'tokens/s':>9}"
        lines += [head + "".join(f"{name:>8} p50{'p90':>8}{'p99':>8}" for name in ("TTFT", "TPOT", "whole"))]
    for row in result["rows"]:
        start = f"{row['rate']:>9g}  {row['name']:16}"
        if "error" in row:
            lines.append(f"{start} {row['error']}")
            continue
        times = "".join(
            f"{'' if (value := row[name][f'p{p}']) is None else f'{value:.3f}':>{12 if p == 50 else 8}}"
            for name in ("ttft", "tpot", "latency") for p in PERCENTILES
        )  # fmt: skip
        lines.append(
            f"{start}{row['requests']:>9}{row['failures']:>7}{row['late']:>5}{row['goodput']:>6.0%}"
            f"{row['tokens_per_second']:>9.1f}{times}"
        )
    for row in result.get("prefix", ()):
        about = row.get("error") or f"{row['cold']:.3f} s cold, {row['warm']:.3f} s warm, {row['times']:.1f} x"
        lines.append(f"first token of {row['shared']} shared tokens, {row['name']}: {about}")
    return "\n".join(lines)
