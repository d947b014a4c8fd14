"""`python -m tfguide.bench.compilation`: a decoding step started from Python, compiled, and as C++ kernels.

Narrow models of more and more layers show what starting operations costs, since their arithmetic is small; model S
shows what is left of it when a step has weights to read. PyTorch keeps compiled programs for the next process:
the command switches that off, so that the seconds of compilation are those of a first time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench.agreement import check_agreement
from tfguide.bench.models import SMALL, bytes_read
from tfguide.bench.timing import machine, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.initialization import init_weights
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.temporary import write_file

NARROW = SMALL.replace(d_model=192, d_head=16, d_ff=512, vocab_size=4096)
MODELS = {f"narrow, {n} layers": NARROW.replace(n_layers=n) for n in (2, 6, 12)} | {"S, 12 layers": SMALL}
PROMPT = 64


def measure_compilation(framework: str, name: str, config: ModelConfig, n_new: int = 16, repeats: int = 7) -> dict:
    """One model in one framework: the seconds of a step of each kind, in turns, and of the compilation.

    "operations": how many the plain step starts from Python; "compile_seconds": the first compiled step less a later
    one; "worth_tokens": after how many steps the compiled decoder has made up for it, None if it never does. Every
    kind must agree with the plain model before it is timed. Raises ValueError for counts below 1.
    """
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    tg = load_framework(framework)
    model = tg.from_weights(config, init_weights(config, 0))
    kinds = {
        "plain": model,
        "compiled": tg.CompiledDecoder(model, PROMPT + n_new),
        "kernels": tg.accelerate(model),
    }
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, PROMPT + n_new))
    steps = {kind: _Steps(one, tokens, n_new) for kind, one in kinds.items()}
    first, logits = {}, {}
    for kind, one in steps.items():
        start = time.perf_counter()
        logits[kind] = one.step()
        first[kind] = time.perf_counter() - start
        check_agreement(logits[kind], logits["plain"], "float32")
    taken = {kind: statistics.median(found) / n_new for kind, found in take_turns(steps, repeats).items()}
    compiling, gain = first["compiled"] - taken["compiled"], taken["plain"] - taken["compiled"]
    return {
        "framework": framework, "name": name, "n_layers": config.n_layers, "d_model": config.d_model,
        "operations": count_operations(framework, model, tokens), "bytes": bytes_read(config, "float32", PROMPT),
        **{f"{kind}_seconds": seconds for kind, seconds in taken.items()}, "compile_seconds": compiling,
        "worth_tokens": int(compiling / gain) + 1 if gain > 0 else None,
    }  # fmt: skip


def count_operations(framework: str, model: Any, tokens: np.ndarray) -> int:
    """The operations that one plain step starts: those that PyTorch dispatches, or the nodes of TensorFlow's graph.

    tokens: (1, n), the prompt and the token of the step. Of the graph, constants, inputs and the cache are not counted.
    """
    cache = model.new_cache(1, tokens.shape[1])
    model.prefill(tokens[:, :-1], cache)
    if framework == "torch":
        return _dispatched(lambda: model.decode(tokens[:, -1], cache))
    import tensorflow as tf

    positions = tf.constant(cache.lengths[:, None], tf.int32)
    step = tf.function(lambda one: model.logits(model.trunk(one, positions)), autograph=False)
    graph = step.get_concrete_function(tf.TensorSpec((1, 1), tf.int32)).graph
    return sum(one.type not in ("Const", "Placeholder", "NoOp", "Identity") for one in graph.get_operations())


def _dispatched(call):
    from torch.utils._python_dispatch import TorchDispatchMode  # the only way to see each operation

    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            self.count += 1
            return operation(*args, **(kwargs or {}))

    with Counting() as counting:
        call()
    return counting.count


class _Steps:
    """Steps of one model after a prompt: a call decodes `n_new` tokens and forgets them again."""

    def __init__(self, model, tokens, n_new):
        self.model, self.tokens, self.n_new = model, tokens, n_new
        self.cache = model.new_cache(1, PROMPT + n_new)
        model.prefill(tokens[:, :PROMPT], self.cache)

    def step(self):
        logits = self.model.decode(self.tokens[:, PROMPT], self.cache)
        self.cache.rewind(PROMPT)
        return logits

    def __call__(self):
        for i in range(PROMPT, PROMPT + self.n_new):
            self.model.decode(self.tokens[:, i], self.cache)
        self.cache.rewind(PROMPT)


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'':30}{'operations':>11}{'plain':>9}{'compiled':>10}{'kernels':>9}{'compiling':>11}{'worth it':>10}"]
    for row in rows:
        times = "".join(
            f"{1e3 * row[f'{kind}_seconds']:{n}.2f}" for kind, n in (("plain", 9), ("compiled", 10), ("kernels", 9))
        )
        who = f"{row['framework']}, {row['name']}"
        worth = "never" if row["worth_tokens"] is None else f"{row['worth_tokens']:,}"
        lines.append(f"{who:30}{row['operations']:>11}{times}{row['compile_seconds']:>9.1f} s{worth:>10}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")  # before torch is imported
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.compilation", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS), help="default: both")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS), help="default: all")
    parser.add_argument("--new-tokens", type=int, default=16, help="steps of a round; default: 16")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that count; default: 7")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    options = parser.parse_args(arguments)
    rows = []
    for framework in options.framework:
        for name in options.model:
            rows.append(measure_compilation(framework, name, MODELS[name], options.new_tokens, options.repeats))
            print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[1], flush=True)
    if options.json:
        found = {"task": "compilation", "machine": machine(), "prompt": PROMPT, "rows": rows}
        write_file(options.json, json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
