"""`tfguide bench waterfall`: one more token, from the naive program to the fast one, a technique added at a time.

Every rung is another way to get the same next token of the same text. All take turns, and the memory is read in each
round, so that the time in which a rung's bytes could be read at best stands beside its own.
"""

from __future__ import annotations

import gc
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.lengths import over_bytes
from tfguide.bench.models import bytes_read, read_config
from tfguide.bench.timing import machine, show_machine, take_turns
from tfguide.checks.values import check_count
from tfguide.generation import greedy
from tfguide.loading import load_framework, load_model

TITLES = {"torch": "PyTorch", "tensorflow": "TensorFlow"}


@dataclass(frozen=True)
class Rung:
    """One way to compute a step.

    name: what was added last; program: "again" (the whole text is read for each token), "cache", "compiled" or
    "kernels"; threads: of the kernels, None for all cores.
    """

    name: str
    program: str
    framework: str
    dtype: str
    threads: int | None = None


def ladder(frameworks: Sequence[str], dtypes: Sequence[str], compiled: bool = True) -> list[Rung]:
    """The rungs in order: three for each framework in float32, then the kernels by threads and by type of weights."""
    plain = [("no cache", "again"), ("a cache", "cache")] + [("compiled", "compiled")] * compiled
    rungs = [Rung(name, program, one, "float32") for name, program in plain for one in frameworks]
    first = frameworks[0]
    rungs += [Rung("C++ kernels, 1 thread", "kernels", first, "float32", 1)]
    return rungs + [Rung("all threads" if k == 0 else dtype, "kernels", first, dtype) for k, dtype in enumerate(dtypes)]


class Stepper:
    """A rung with its model: `steps(n)` continues a prompt (1, T) by n greedy tokens, after `ready`."""

    def __init__(self, rung: Rung, model: Any, tg: Any, prompt: np.ndarray, n_new: int):
        self.prompt, self.tg, self.length = prompt, tg, prompt.shape[1]
        self.again = rung.program == "again"
        if rung.program == "kernels":
            model = tg.accelerate(model) if rung.threads is None else tg.accelerate(model, rung.threads)
        elif rung.program == "compiled":
            model = tg.CompiledDecoder(model, self.length + n_new)
        self.model = model
        self.cache = None if self.again else model.new_cache(1, self.length + n_new)

    def ready(self) -> np.ndarray:
        """Read the prompt, as far as a step does not do it: the logits (V,) after it."""
        if self.again:
            logits = self._whole(self.prompt)
        else:
            logits = np.asarray(self.model.prefill(self.prompt, self.cache), np.float32)
        self.first = greedy(logits)
        return logits[0]

    def steps(self, n: int) -> list[int]:
        """The n tokens after the prompt's first new one."""
        tokens, chosen = self.first, []
        if not self.again:
            self.cache.rewind(self.length)
        text = self.prompt
        for _ in range(n):
            if self.again:
                text = np.concatenate([text, tokens[:, None]], axis=1)
                tokens = greedy(self._whole(text))
            else:
                tokens = greedy(self.model.decode(tokens, self.cache))
            chosen.append(int(tokens[0]))
        return chosen

    def _whole(self, text):
        """Logits at every position, as a call of the model gives them; the last ones are used."""
        with self.model.without_gradients():
            return self.model.as_array(self.model(text)[:, -1])


def bench_waterfall(
    path: str | os.PathLike,
    tokens: Sequence[int],
    rungs: Sequence[Rung],
    n_new: int = 16,
    repeats: int = 5,
    slow_steps: int = 2,
    keep: Callable[[dict], None] = lambda result: None,
) -> dict:
    """Time one more token after a text by every rung, in turns.

    path: a GGUF file or a checkpoint folder. tokens: the text (n,). slow_steps: of a round without a cache, where each
    takes long; the other rungs take n_new. A row has the "seconds" of a step, its "bytes" and how many times longer it
    took than they do ("over_bytes"), and how many of its first tokens are those of the first rung ("same_tokens").
    Raises ValueError for counts below 1, and as the readers of checkpoints.
    """
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    slow_steps = min(n_new, check_count("slow_steps", slow_steps))
    prompt = np.asarray(tokens)[None]
    config, reader = read_config(path), limits.memory_reader()
    result = {
        "task": "waterfall", "machine": machine(), "config": config.to_dict(), "limits": limits.measure(reader),
        "prompt": prompt.shape[1], "new_tokens": n_new, "rows": [],
    }  # fmt: skip
    running: dict[int, tuple[Stepper, int]] = {}
    models: dict[tuple[str, str], Any] = {}
    truth = None
    for k, rung in enumerate(rungs):
        tg, kind = load_framework(rung.framework), (rung.framework, rung.dtype)
        if kind not in models:
            models[kind] = load_model(tg, path, rung.dtype)
        one = Stepper(rung, models[kind], tg, prompt, n_new)
        logits = one.ready()
        truth = logits if truth is None else truth
        running[k] = one, slow_steps if one.again else n_new
        difference = float(np.sqrt(np.mean((logits - truth) ** 2) / np.mean(truth**2)))
        result["rows"].append(vars(rung) | {"threads": rung.threads or result["machine"]["cores"],
                                            "difference": difference, "tokens": one.steps(running[k][1])})  # fmt: skip
    calls = {k: (lambda one=one, n=n: one.steps(n)) for k, (one, n) in running.items()}
    seconds = take_turns({"memory": reader} | calls, repeats, warmup=1)
    for k, row in enumerate(result["rows"]):
        n = running[k][1]
        row["seconds"] = statistics.median(seconds[k]) / n
        row["bytes"] = _bytes_of(config, rungs[k], prompt.shape[1] + n // 2)
        row["over_bytes"] = over_bytes(seconds[k], seconds["memory"], n * row["bytes"], reader.n_bytes)
        row["read_bytes_per_second"] = reader.n_bytes / statistics.median(seconds["memory"])
        row["same_tokens"] = _same(row["tokens"], max((other["tokens"] for other in result["rows"]), key=len))
    keep(result)
    running.clear()
    gc.collect()
    return result


def _bytes_of(config, rung, context):
    """The bytes that a step must read: without a cache the weights alone."""
    return bytes_read(config, rung.dtype, 0 if rung.program == "again" else context)


def _same(tokens, other):
    """How many of the first tokens are equal."""
    return next((k for k, pair in enumerate(zip(tokens, other, strict=False)) if pair[0] != pair[1]), len(tokens))


def table(result: Mapping[str, Any]) -> str:
    """The rungs as lines of text."""
    lines = [show_machine(result), f"{'':22}{'framework':12}{'weights':10}{'ms':>9}{'of bytes':>10}{'tokens':>8}"]
    for row in result["rows"]:
        about = f"{row['name']:22}{TITLES[row['framework']]:12}{row['dtype']:10}"
        same = f"{row['same_tokens']}/{len(row['tokens'])}"
        lines.append(f"{about}{1e3 * row['seconds']:>9.2f}{row['over_bytes']:>8.2f} x{same:>8}")
    return "\n".join(lines)
