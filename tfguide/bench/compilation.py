"""`python -m tfguide.bench.compilation`: a step of decoding started from Python, compiled, and by the C++ kernels.

Narrow models of more and more layers show what starting operations costs, since their weights are small. Model S and
SmolLM2 show what is left of it when a step has weights to read. PyTorch keeps compiled programs for the next process:
the command switches that off, so that the seconds of a compilation are those of a first time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits, operations
from tfguide.bench.agreement import check_agreement
from tfguide.bench.models import SMALL, bytes_read, read_model
from tfguide.bench.ours import OurRows
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.cost import steps_to_pay
from tfguide.initialization import init_weights
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework

NARROW = SMALL.replace(d_model=192, d_head=16, d_ff=512, vocab_size=4096)
MODELS = {f"narrow, {n} layers": NARROW.replace(n_layers=n) for n in (2, 6, 12)} | {"S": SMALL}
SMOLLM = "SmolLM2"
PROMPT, STEPS = 64, 64  # tokens before the steps, and steps over which programs are counted


def measure_compilation(
    framework: str,
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    n_new: int = 16,
    repeats: int = 7,
    steps: int = STEPS,
    reader: Callable[[], float] | None = None,
) -> list[dict[str, Any]]:
    """A row for each way to run a step of one model in one framework, timed in turns: `n_new` steps a round.

    Of a row "seconds" are those of a step, "first_seconds" those of the first one less a later one: the compilation.
    "programs": how many were compiled in the first step, and how many after `steps` of them. "operations": what a plain
    step starts from Python. "worth": after how many steps a compiled one has made up for its compilation, None if
    never. "bytes": what a step reads; reader: a contestant that reads memory, for "bytes_seconds"; default: not said.
    Raises RuntimeError for a way that does not give the logits of the plain model, ValueError for counts below 1.
    """
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    steps = check_count("steps", steps, least=n_new)
    tg = load_framework(framework)
    model = tg.from_weights(config, weights)
    prompts = np.random.default_rng(0).integers(0, config.vocab_size, (1, PROMPT))
    running, rows, logits = {}, {}, None
    for kind, one in _ways(framework, model, PROMPT + steps).items():
        running[kind] = ours = OurRows(one, prompts, steps)
        token = ours.read()[0].argmax()[None]
        start = time.perf_counter()
        found = one.decode(token, ours.cache)
        first = time.perf_counter() - start
        logits = found if logits is None else logits
        rows[kind] = {
            "kind": kind, "first_seconds": first, "difference": check_agreement(found, logits, "float32"),
            "programs": [_programs(kind, one)],
        }  # fmt: skip
        ours.steps(steps)
        rows[kind]["programs"].append(_programs(kind, one))
    contestants = {kind: lambda ours=ours: ours.steps(n_new) for kind, ours in running.items()}
    times = take_turns(({"memory": reader} if reader else {}) | contestants, repeats)
    taken = {kind: statistics.median(times[kind]) / n_new for kind in rows}
    needed = bytes_read(config, "float32", PROMPT + n_new // 2)
    started = operations.count(framework, model, prompts)
    for kind, row in rows.items():
        compiling = max(row["first_seconds"] - taken[kind], 0.0)
        row |= {
            "framework": framework, "n_layers": config.n_layers, "d_model": config.d_model, "seconds": taken[kind],
            "first_seconds": compiling, "worth": steps_to_pay(compiling, taken["eager"], taken[kind]),
            "operations": started, "bytes": needed,
        }  # fmt: skip
        if reader:
            row["bytes_seconds"] = needed * statistics.median(times["memory"]) / reader.n_bytes
    return list(rows.values())


def _ways(framework: str, model: Any, size: int) -> dict[str, Any]:
    """The same model four times in TensorFlow, three times in PyTorch; all have `decode`."""
    tg = load_framework(framework)
    ways = {"eager": model}
    if framework == "tensorflow":
        ways["graph"] = _graph_decoder(model, size)
    return ways | {"compiled": tg.CompiledDecoder(model, size), "kernels": tg.accelerate(model)}


def _graph_decoder(model, size):
    """A compiled decoder whose step is a graph of TensorFlow, without XLA."""
    import tensorflow as tf

    from tfguide.tensorflow import CompiledDecoder

    class GraphDecoder(CompiledDecoder):
        def __init__(self):
            super().__init__(model, size)
            self._step = tf.function(self.plain_step)

    return GraphDecoder()


def _programs(kind, one):
    return one.n_programs if kind in ("graph", "compiled") else 0


def warm_up(framework: str) -> None:
    """Compile a tiny model, so that what a framework loads for its first compilation is not counted with a model's."""
    config = NARROW.replace(n_layers=1, d_model=24, n_heads=2, n_kv_heads=1, d_head=8, d_ff=32, vocab_size=64)
    tg = load_framework(framework)
    tg.CompiledDecoder(tg.from_weights(config, init_weights(config, 0)), 8).generate([[1, 2]], 2, [])


def kept_rows(file: str, result: dict[str, Any], wanted: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A result with the rows of a file, but for those of the frameworks and models that are measured again.

    Raises ValueError as `read_result`.
    """
    old = read_result(file, result["machine"])
    rows = [row for row in old.get("rows", []) if (row["framework"], row["model"]) not in wanted]
    return result | {"frameworks": old.get("frameworks", {}), "rows": rows}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table of text."""
    head = f"{'':42}{'operations':>11}{'ms/step':>9}{'bytes ms':>9}{'compiling':>11}{'worth it':>10}{'programs':>10}"
    lines = [head]
    for row in rows:
        who = f"{row['framework']}, {row['model']}, {row['kind']}"
        worth = "" if row["kind"] in ("eager", "kernels") else "never" if row["worth"] is None else f"{row['worth']:,}"
        lines.append(
            f"{who:42}{row['operations']:>11}{1e3 * row['seconds']:>9.2f}{1e3 * row.get('bytes_seconds', 0):>9.2f}"
            f"{row['first_seconds']:>9.1f} s{worth:>10}{row['programs'][-1]:>10}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")  # before torch is imported
    names = [*MODELS, SMOLLM]
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.compilation", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS), help="default: both")
    parser.add_argument("--model", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--new-tokens", type=int, default=16, help="steps of a round; default: 16")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count; default: 7")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    parser.add_argument("--add", action="store_true", help="keep the rows of FILE that are not measured again")
    options = parser.parse_args(arguments)
    if options.add and not options.json:
        parser.error("--add keeps rows of a file: name it by --json")
    wanted = [(framework, name) for framework in options.framework for name in options.model]
    result = {
        "task": "compilation",
        "machine": machine(),
        "prompt": PROMPT,
        "steps": STEPS,
        "frameworks": {},
        "rows": [],
    }
    if options.add:
        result = kept_rows(options.json, result, wanted)
    reader = limits.memory_reader()
    for framework in options.framework:
        warm_up(framework)
        result["frameworks"][framework] = {
            "start_seconds": operations.start_seconds(framework), "layer": operations.layer_names(framework, NARROW)
        }  # fmt: skip
        for name in options.model:
            config, weights = read_model(find_checkpoint(None)) if name == SMOLLM else (MODELS[name], None)
            weights = init_weights(config, 0) if weights is None else weights
            found = measure_compilation(framework, config, weights, options.new_tokens, options.repeats, reader=reader)
            result["rows"] += [{"model": name} | row for row in found]
            result["rows"].sort(key=lambda row: (FRAMEWORKS.index(row["framework"]), names.index(row["model"])))
            lines = table([{"model": name} | row for row in found]).splitlines()
            print("\n".join(lines if wanted[0] == (framework, name) else lines[1:]), flush=True)
            if options.json:
                write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
