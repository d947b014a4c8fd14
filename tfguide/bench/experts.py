"""`tfguide bench experts`: the time of a step by the number of experts that a token is sent to.

A step of a mixture reads the experts of its tokens and no others. So the same weights should take as long as the bytes
of the experts that are read say, be it one of them or all. The kernels alone are measured, without a framework.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide import native
from tfguide.bench import limits
from tfguide.bench.lengths import over_bytes
from tfguide.bench.models import bytes_read, kept_model
from tfguide.bench.ours import OurRows
from tfguide.bench.timing import machine, show_machine, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig

PROMPT = 16  # tokens before the steps


def bench_experts(
    config: ModelConfig,
    dtypes: Sequence[str] = ("float32",),
    n_new: int = 16,
    repeats: int = 9,
    keep: Callable[[dict], None] = lambda result: None,
    folder: str | None = None,
) -> dict:
    """Time `n_new` greedy steps of one text, for each number of experts from 1 to all of them.

    In the same rounds the memory is read, and a model without experts decodes, whose network is as wide as all that a
    token of `config` passes through. A row has the "experts_read" of a layer, counted by the kernels, the "seconds" and
    the "bytes" of a step, and "over_bytes", how many times longer it took than the memory took to read them. The row
    with the experts of `config` has "over_dense" as well: how many times longer a byte of it took than one of the model
    without experts. `keep` is given the result after every type. Raises ValueError for a model without experts, and for
    counts below 1.
    """
    if config.experts is None:
        raise ValueError("the number of experts that a token is sent to is that of a mixture: the model has none")
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    reader = limits.memory_reader()
    found = limits.measure(reader)
    result = {"task": "experts", "machine": machine(False), "config": config.to_dict(), "limits": found, "rows": []}
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (1, PROMPT))
    dense = without_experts(config)
    with kept_model(config, folder) as folder, kept_model(dense, None) as dense_folder:
        for dtype in dtypes:
            mixture, other = native.load(folder, dtype=dtype), native.load(dense_folder, dtype=dtype)
            numbers = range(1, config.experts.n_experts + 1)
            running = {n: OurRows(mixture.with_experts(n), prompt, n_new) for n in numbers}
            running["dense"] = OurRows(other, prompt, n_new)
            for one in running.values():
                one.read()
            counted = {n: running[n].experts_read(n_new) for n in numbers}
            calls = {name: (lambda one=one: one.steps(n_new)) for name, one in running.items()}
            seconds = take_turns({"memory": reader} | calls, repeats)
            sizes = {
                n: bytes_read(config, dtype, PROMPT + n_new // 2, experts_read=read) for n, read in counted.items()
            }
            sizes["dense"] = bytes_read(dense, dtype, PROMPT + n_new // 2)
            rows = speeds(seconds, sizes, n_new, reader.n_bytes, config.experts.per_token)
            base = {"name": "tfguide", "framework": "none", "dtype": dtype, "prompt": PROMPT, "new_tokens": n_new}
            result["rows"] += [base | row | {"experts_read": counted[row["experts"]]} for row in rows]
            del mixture, other, running, calls
            gc.collect()
            keep(result)
    return result


def without_experts(config: ModelConfig) -> ModelConfig:
    """A model whose network is as wide as the experts of a token together, the shared ones among them."""
    experts = config.experts
    return config.replace(experts=None, d_ff=(experts.per_token + experts.n_shared) * experts.d_expert)


def speeds(
    seconds: Mapping[Any, Sequence[float]], sizes: Mapping[Any, int], n_new: int, n_bytes: int, per_token: int
) -> list[dict[str, Any]]:
    """What the times of all rounds say: a row for each number of experts.

    seconds: {number: those of `n_new` steps in each round, "dense": of the model without experts, "memory": of reading
    `n_bytes`}; sizes: {number: the bytes of a step, "dense"}; per_token: the number that is compared with "dense".
    """
    rows = []
    for n in (name for name in sizes if name != "dense"):
        own = seconds[n]
        row = {
            "experts": n, "seconds": statistics.median(own) / n_new, "bytes": sizes[n],
            "read_bytes_per_second": n_bytes / statistics.median(seconds["memory"]),
            "over_bytes": over_bytes(own, seconds["memory"], n_new * sizes[n], n_bytes),
        }  # fmt: skip
        if n == per_token:
            row["over_dense"] = over_bytes(own, seconds["dense"], sizes[n], sizes["dense"])
        rows.append(row)
    return rows


def table(result: Mapping[str, Any]) -> str:
    """The rows as lines of text."""
    lines = [show_machine(result)]
    lines.append(f"{'type':9}{'experts':>8}{'ms/step':>9}{'MB read':>9}{'of bytes':>10}{'of dense':>10}")
    for row in result["rows"]:
        over = f"{row['over_dense']:.2f} x" if "over_dense" in row else ""
        lines.append(
            f"{row['dtype']:9}{row['experts_read']:>8.4g}{1e3 * row['seconds']:>9.2f}{row['bytes'] / 1e6:>9.1f}"
            f"{row['over_bytes']:>8.2f} x{over:>10}".rstrip()
        )
    return "\n".join(lines)
