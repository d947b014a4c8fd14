"""`tfguide bench rows`: steps of 1 to 64 rows, beside llama.cpp's batched decoding.

A step of B rows reads the weights once for all of them. It can be as fast as B times the speed of one row, as long as
the memory is the limit, and as fast as a prompt is read, where arithmetic is: the smaller of the two is the bound. Of a
mixture, B rows read more experts than one: its first bound is lower, by the bytes of the experts that were counted.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.agreement import check_agreement
from tfguide.bench.llama import LlamaModel, LlamaRows, find_gguf, has_llama_cpp
from tfguide.bench.models import bytes_read, kept_model
from tfguide.bench.ours import OurRows, load_ours, plain_logits
from tfguide.bench.timing import machine, median_ratio, show_machine, show_name, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig

BATCHES = (1, 2, 4, 8, 16, 32, 64)
READ = 512  # tokens of the prompt whose speed is a bound


def bench_rows(
    config: ModelConfig,
    frameworks: Sequence[str] = ("torch",),
    dtypes: Sequence[str] = ("float32",),
    peers: bool = False,
    batches: Sequence[int] = BATCHES,
    prompt_length: int = 16,
    n_new: int = 16,
    repeats: int = 5,
    read_length: int = READ,
    keep: Callable[[dict], None] = lambda result: None,
    folder: str | None = None,
) -> dict:
    """Time `n_new` greedy steps after prompts of `prompt_length` tokens, for each number of rows in `batches`.

    Choosing the tokens is part of a step. One row is always measured, and a prompt of `read_length` tokens, since both
    are in the bound. All take turns, with llama.cpp if `peers`: it has no framework and stands beside each. A peer that
    fails, or whose logits do not agree, is a row with an "error" and no times. `keep` is given the result after every
    framework and type. Raises ValueError for counts below 1.
    """
    batches = sorted({1, *(check_count("batches", batch) for batch in batches)})
    prompt_length, n_new = check_count("prompt_length", prompt_length), check_count("n_new", n_new)
    repeats, read_length = check_count("repeats", repeats), check_count("read_length", read_length)
    found = limits.measure(limits.memory_reader())
    result = {"task": "rows", "machine": machine(peers), "config": config.to_dict(), "limits": found, "rows": []}
    draw = np.random.default_rng(0).integers
    prompts = draw(0, config.vocab_size, (batches[-1], prompt_length))
    text = draw(0, config.vocab_size, (1, read_length))
    with kept_model(config, folder) as folder:
        truth = plain_logits(frameworks[0], folder, prompts)
        for dtype in dtypes:
            for framework in frameworks:
                base = {"framework": framework, "dtype": dtype, "prompt": prompt_length, "new_tokens": n_new}
                model = load_ours(framework, folder, dtype)
                ours = {batch: OurRows(model, prompts[:batch], n_new) for batch in batches}
                running = {"tfguide": _agreeing(ours, truth, dtype)}
                rows = []
                if peers:
                    try:
                        running["llama.cpp"] = _agreeing(_llama(folder, dtype, prompts, batches, n_new), truth, dtype)
                    except Exception as error:  # ours are still worth timing, and the row says what happened
                        rows.append({"name": "llama.cpp", **base, "error": f"{type(error).__name__}: {error}"})
                reading = OurRows(model, text, 0)
                experts = {batch: one.experts_read(n_new) for batch, one in ours.items()} if config.experts else {}
                calls = {(name, batch): _steps(one, n_new) for name, some in running.items() for batch, one in some}
                seconds = take_turns({"prompt": reading.read} | calls, repeats)
                more = _more_bytes(config, dtype, prompt_length + n_new // 2, experts)
                result["rows"] += [base | row for row in speeds(seconds, n_new, read_length, more, experts)] + rows
                for some in running.values():
                    for _, one in some:
                        one.close()
                del model, ours, running, reading, calls
                gc.collect()
                keep(result)
    return result


def speeds(
    seconds: Mapping[Any, Sequence[float]], n_new: int, read_length: int, more_bytes: Mapping[int, float] | None = None,
    experts: Mapping[int, float] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """What the times of all rounds say: a row for each contestant and number of rows.

    seconds: {(name, batch): seconds of `n_new` steps in each round, "prompt": seconds of our prompt of `read_length`}.
    "ratio" is how many times faster ours is with as many rows, "share" our speed as a part of the smaller of batch
    times our speed of one row and the speed of our prompt. Both are medians of the rounds. Of a mixture, by number of
    rows: more_bytes: how many times the bytes of one row they read; experts: "experts_read", those of a layer.
    """
    more_bytes, experts = more_bytes or {}, experts or {}
    rows = []
    for name, batch in (key for key in seconds if key != "prompt"):
        own = seconds[name, batch]
        middle = statistics.median(own)
        row = {"name": name, "batch": batch, "seconds": middle, "tokens_per_second": n_new * batch / middle}
        row["ratio"] = median_ratio(seconds, (name, batch), ("tfguide", batch))
        if name == "tfguide":
            if experts:
                row["experts_read"] = experts[batch]
            row["prompt_tokens_per_second"] = read_length / statistics.median(seconds["prompt"])
            rounds = zip(own, seconds[name, 1], seconds["prompt"], strict=True)
            row["share"] = statistics.median(
                n_new * batch / mine / min(batch * n_new / (one * more_bytes.get(batch, 1.0)), read_length / prompt)
                for mine, one, prompt in rounds
            )
        rows.append(row)
    return rows


def table(result: dict) -> str:
    """The rows as lines of text: a line for each number of rows and contestant."""
    lines = [show_machine(result)]
    counts = any("experts_read" in row for row in result["rows"])
    head = f"{'':20} {'type':9}{'rows':>5}{'tokens/s':>11}{'ms/step':>9}{'ours is':>9}{'of bound':>10}"
    lines.append(head + ("   experts" if counts else ""))
    for row in result["rows"]:
        name = show_name(row)
        if "error" in row:
            lines.append(f"{name:20} {row['dtype']:9}  {row['error']}")
            continue
        ratio = "" if row["name"] == "tfguide" else f"{row['ratio']:.2f} x"
        share = f"{row['share']:.0%}" if "share" in row else ""
        read = f"{row['experts_read']:>10.2f}" if "experts_read" in row else ""
        lines.append(
            f"{name:20} {row['dtype']:9}{row['batch']:>5}{row['tokens_per_second']:>11.1f}"
            f"{1e3 * row['seconds'] / row['new_tokens']:>9.2f}{ratio:>9}{share:>10}{read}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _more_bytes(config, dtype, context, experts):
    """How many times the bytes of one row a step with so many rows reads. experts: those of a layer, by rows."""
    return {
        batch: bytes_read(config, dtype, context, experts_read=read) / bytes_read(config, dtype, context)
        for batch, read in experts.items()
    }


def _llama(folder, dtype, prompts, batches, n_new):
    if not has_llama_cpp():
        raise ImportError("llama-cpp-python is not installed")
    model = LlamaModel(find_gguf(folder, dtype))
    return {batch: LlamaRows(model, prompts[:batch], n_new) for batch in batches}


def _agreeing(contestants, truth, dtype):
    """Let each read its prompts, and compare the logits: [(batch, contestant), ...]."""
    for batch, one in contestants.items():
        check_agreement(one.read(), truth[:batch], dtype)
    return list(contestants.items())


def _steps(one, n_new):
    return lambda: one.steps(n_new)
