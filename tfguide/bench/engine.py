"""`python -m tfguide.bench.engine`: what the engine and its paged cache add to the bare steps of a model.

A bare step is `decode` with a dense cache, and the most likely token of each row. It takes turns with the same on a
paged cache, and with a step of the engine that has as many rows of the same length.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from tfguide.bench.models import MODELS, find_model, kept_model
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, median_ratio, take_turns
from tfguide.checks.values import check_count
from tfguide.dtypes import WEIGHT_DTYPES
from tfguide.generation import greedy
from tfguide.loading import FRAMEWORKS, NONE, find_checkpoint, load_any
from tfguide.serving import Engine, Request

CONTEXT, ROWS, STEPS = 128, (1, 4, 16, 64), 4
WAYS = ("dense", "paged", "engine")


def measure(model: Any, n_rows: int, context: int = CONTEXT, repeats: int = 15, steps: int = STEPS) -> dict[str, float]:
    """The median seconds of a bare step with `n_rows` rows, and the ratios of the others to it in the same round.

    context: tokens of each row at first; every round adds `steps`. "python_seconds": what a step of the engine takes
    without the model. Raises ValueError for counts below 1.
    """
    check_count("n_rows", n_rows)
    room = context + (repeats + 2) * steps + 1
    prompts = np.random.default_rng(0).integers(0, model.config.vocab_size, (n_rows, context))
    n_blocks = n_rows * -(-room // 16)
    paged = model.new_paged_cache(n_rows, n_blocks, max_length=room)
    for row, blocks in enumerate(np.arange(n_blocks).reshape(n_rows, -1).tolist()):
        paged.assign(row, blocks)
    calls: dict[str, Callable[[], object]] = {
        "dense": _bare(model, model.new_cache(n_rows, room), prompts, steps),
        "paged": _bare(model, paged, prompts, steps),
        "engine": _engine(model, n_blocks, prompts, room, steps),
    }
    seconds = take_turns(calls, repeats)
    return {
        "rows": n_rows, "step_seconds": median(seconds["dense"]) / steps,
        **{f"{way}_ratio": median_ratio(seconds, way, "dense") for way in WAYS[1:]},
        "python_seconds": python_seconds(model, n_rows),
    }  # fmt: skip


def python_seconds(model: Any, n_rows: int, repeats: int = 50) -> float:
    """The median seconds of a step of the engine with `n_rows` rows whose model takes no time."""
    logits = np.zeros((n_rows, 2), np.float32)
    engine = Engine(_Instant(model, logits), n_blocks=n_rows * 16, rows=n_rows, tokens=n_rows)
    for _ in range(n_rows):
        engine.add(Request(prompt=[1, 2], max_new_tokens=repeats + 10, stop_tokens=()))
    while any(sequence.n_new < 1 for sequence in (*engine.scheduler.waiting, *engine.scheduler.running)):
        engine.step()
    return median(take_turns({"step": engine.step}, repeats)["step"])


class _Instant:
    """A model that computes nothing: its logits are always the same."""

    def __init__(self, model, logits):
        self.config, self.logits = model.config, logits
        self.new_paged_cache, self.new_storage = model.new_paged_cache, model.new_storage

    def decode_rows(self, tokens, rows, cache, wanted, prompts):
        cache.advance(np.bincount(rows, minlength=cache.batch_size))
        return self.logits[: np.count_nonzero(wanted)]


def _bare(model, cache, prompts, steps):
    """A function that takes some steps."""
    state = [greedy(model.prefill(prompts, cache))]

    def call():
        for _ in range(steps):
            state[0] = greedy(model.decode(state[0], cache))

    return call


def _engine(model, n_blocks, prompts, room, steps):
    """A function that lets an engine take some steps, whose rows have all read their prompts."""
    engine = Engine(model, n_blocks=n_blocks, max_length=room, rows=len(prompts), tokens=prompts.size)
    for prompt in prompts:
        engine.add(Request(prompt=prompt, max_new_tokens=room - len(prompt), stop_tokens=()))
    engine.step()

    def call():
        for _ in range(steps):
            engine.step()

    return call


def table(result: Mapping[str, Any]) -> str:
    """The result as a table of text."""
    head = f"{'model':14}{'weights':10}{'framework':12}{'rows':>5}"
    lines = [f"{head}{'step ms':>10}{'paged':>8}{'engine':>8}{'Python ms':>11}"]
    for row in result["rows"]:
        lines.append(
            f"{row['model']:14}{row['dtype']:10}{row['framework']:12}{row['rows']:5}{1e3 * row['step_seconds']:10.2f}"
            f"{row['paged_ratio']:8.3f}{row['engine_ratio']:8.3f}{1e3 * row['python_seconds']:11.3f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every combination, print the table, and write the JSON; returns 0."""
    parser = argparse.ArgumentParser(description="Measure what the engine adds to the steps of a model.")
    parser.add_argument("--model", nargs="+", default=["S", "SmolLM2"], help=f"of {', '.join(MODELS)}, SmolLM2")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16", "int8", "int4"], choices=WEIGHT_DTYPES)
    parser.add_argument("--framework", nargs="+", default=[NONE, *FRAMEWORKS], choices=(NONE, *FRAMEWORKS))
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", metavar="FILE", help="write the result to FILE")
    options = parser.parse_args(arguments)
    result = {"task": "engine", "machine": machine(), "context": CONTEXT, "rows": []}
    for name in options.model:
        with _folder(name) as path:
            for dtype in options.dtype:
                for framework in options.framework:
                    model = load_any(path, framework, dtype)
                    for n_rows in options.rows:
                        row = {"model": name, "dtype": dtype, "framework": framework}
                        result["rows"].append(row | measure(model, n_rows, repeats=options.repeats))
                        print(table(result).splitlines()[-1], file=sys.stderr, flush=True)
                        if options.json:
                            write_json(result, options.json)
    print(table(result))
    return 0


@contextlib.contextmanager
def _folder(name):
    if name == "SmolLM2":
        yield find_checkpoint(None)
        return
    with kept_model(*find_model(name)) as folder:
        yield folder


if __name__ == "__main__":
    sys.exit(main())
