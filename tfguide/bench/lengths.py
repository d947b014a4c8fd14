"""`tfguide bench lengths`: prompts of several lengths and steps after them, for each type of weights and of cache.

A step reads every weight and the whole cache once: its bytes, at the speed at which the memory is read in the same
round, are the least time that it can take. A prompt is arithmetic: its operations, at the best rate that the same
contestant reaches with any of the lengths, say how long it would take if long texts were no harder than short ones.
"""

from __future__ import annotations

import gc
import statistics
import time
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
from tfguide.cost.flops import prefill_flops
from tfguide.cost.memory import cache_dtype as default_cache_dtype

LENGTHS = (128, 1024, 4000, 8000)
LONG = 2048  # tokens of a prompt whose first reading is timed: it takes many seconds, and needs no warm-up


def bench_lengths(
    config: ModelConfig,
    frameworks: Sequence[str] = ("torch",),
    dtypes: Sequence[str] = ("float32",),
    peers: bool = False,
    cache_dtypes: Sequence[str | None] = (None,),
    lengths: Sequence[int] = LENGTHS,
    n_new: int = 8,
    repeats: int = 5,
    prompt_repeats: int = 1,
    keep: Callable[[dict], None] = lambda result: None,
    folder: str | None = None,
) -> dict:
    """Time reading prompts of each length, and `n_new` greedy steps after them.

    cache_dtypes: types of our cache, as `new_cache` takes them; None is the model's default. llama.cpp, if `peers`,
    caches float16, and is timed with and without its flash attention, since one is better at prompts and the other at
    steps. Prompts are read in `prompt_repeats` rounds that count; the reading whose logits are compared is one of them
    if the prompt is longer than LONG. A peer that fails, or whose logits do not agree, is a row with an "error" and no
    times. `keep` is given the result after every length. Raises ValueError for counts below 1.
    """
    lengths = sorted({check_count("lengths", length) for length in lengths})
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    prompt_repeats = check_count("prompt_repeats", prompt_repeats)
    reader = limits.memory_reader()
    found = limits.measure(reader)
    result = {"task": "lengths", "machine": machine(peers), "config": config.to_dict(), "limits": found, "rows": []}
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, lengths[-1]))
    counts = (n_new, repeats, prompt_repeats)
    with kept_model(config, folder) as folder:
        truths = {length: plain_logits(frameworks[0], folder, tokens[:, :length]) for length in lengths}
        for dtype in dtypes:
            for framework in frameworks:
                model, peer, error = load_ours(framework, folder, dtype), None, None
                if peers:
                    peer, error = _load_llama(folder, dtype)
                done = [{"name": "llama.cpp", "error": error}] if error else []
                for length, truth in truths.items():
                    prompt = tokens[:, :length]
                    contestants = {kind: OurRows(model, prompt, n_new, **_options(kind)) for kind in cache_dtypes}
                    done += _round(config, reader, contestants, peer, prompt, truth, dtype, counts)
                    compare_with_best(done)
                    base = {"framework": framework, "dtype": dtype, "new_tokens": n_new}
                    shown = [base | row for row in done]
                    keep(result | {"rows": result["rows"] + shown})
                result["rows"] += shown
                del model, peer, contestants
                gc.collect()
    return result


def _round(config, reader, contestants, peer, prompt, truth, dtype, counts):
    """The rows of one length: our caches and llama.cpp, in turns; prompts first, then steps after them."""
    n_new, repeats, prompt_repeats = counts
    length = prompt.shape[1]
    rows, running, first_reading = [], {}, {}
    makers = {("tfguide", kind or default_cache_dtype(dtype)): _same(one) for kind, one in contestants.items()}
    if peer:
        makers["llama.cpp", "float16"] = lambda: LlamaRows(peer, prompt, n_new)
        makers["llama.cpp, flash", "float16"] = lambda: LlamaRows(peer, prompt, n_new, flash=True)
    for (name, kind), make in makers.items():
        row, one = {"name": name, "cache_dtype": kind, "prompt": length}, None
        rows.append(row)
        try:
            one = make()
            start = time.perf_counter()
            logits = one.read()
            first_reading[name, kind] = time.perf_counter() - start
            row["difference"] = check_agreement(logits, truth, dtype)
            running[name, kind] = one
        except Exception as error:  # the others are still worth timing, and the row says what happened
            if name == "tfguide":
                raise
            row["error"] = f"{type(error).__name__}: {error}"
            if one is not None:
                one.close()
    prompts = {who: [first_reading[who]] if length > LONG else [] for who in running}
    if more := prompt_repeats - (length > LONG):
        again = take_turns({who: one.read for who, one in running.items()}, more, warmup=0)
        prompts = {who: [*prompts[who], *again[who]] for who in running}
    calls = {who: (lambda one=one: one.steps(n_new)) for who, one in running.items()}
    steps = take_turns({"memory": reader} | calls, repeats)
    for row in rows:
        who = row["name"], row["cache_dtype"]
        if who in running:
            row |= _times(config, dtype, row, who, next(iter(running)), steps, prompts, n_new, reader.n_bytes)
    for one in running.values():
        one.close()
    return rows


def _times(config, dtype, row, who, first, steps, prompts, n_new, n_bytes):
    length = row["prompt"]
    found = {
        "seconds": statistics.median(steps[who]) / n_new,
        "tokens_per_second": n_new / statistics.median(steps[who]),
        "read_bytes_per_second": n_bytes / statistics.median(steps["memory"]),
        "ratio": median_ratio(steps, who, first),  # how many times faster ours is, with the first type of cache
        "prompt_seconds": statistics.median(prompts[who]),
        "prompt_tokens_per_second": length / statistics.median(prompts[who]),
        "prompt_ratio": median_ratio(prompts, who, first),
        "prompt_flops": prefill_flops(config, length),
    }
    if row["name"] == "tfguide":
        found["bytes"] = bytes_read(config, dtype, length + n_new // 2, row["cache_dtype"])
        found["over_bytes"] = over_bytes(steps[who], steps["memory"], n_new * found["bytes"], n_bytes)
    return found


def over_bytes(seconds: Sequence[float], reading: Sequence[float], needed: float, n_bytes: float) -> float:
    """How many times longer than reading its bytes something took: the median of the rounds.

    seconds: of each round; reading: the seconds in which `n_bytes` were read in the same round; needed: its own bytes.
    """
    return statistics.median(own * n_bytes / (needed * read) for own, read in zip(seconds, reading, strict=True))


def compare_with_best(rows: Sequence[dict[str, Any]]) -> None:
    """Set "over_operations" of rows: how many times longer a prompt took than its operations at the best rate say.

    The best rate is that of the same contestant and type of cache, over all rows given.
    """
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        if "prompt_seconds" in row:
            who = row["name"], row["cache_dtype"]
            best[who] = max(best.get(who, 0.0), row["prompt_flops"] / row["prompt_seconds"])
    for row in rows:
        if "prompt_seconds" in row:
            rate = best[row["name"], row["cache_dtype"]]
            row["over_operations"] = row["prompt_seconds"] * rate / row["prompt_flops"]


def table(result: Mapping[str, Any]) -> str:
    """The rows as lines of text: for each contestant with its types of weights and cache a line for each length."""
    lines = [show_machine(result)]
    lines.append(
        f"{'positions':>11}{'ms/step':>9}{'of bytes':>10}{'ours is':>9}{'tokens/s':>11}{'of best':>9}{'ours is':>9}"
    )
    groups: dict[str, list[str]] = {}
    for row in result["rows"]:
        cache = f", cache in {row['cache_dtype']}" if "cache_dtype" in row else ""
        groups.setdefault(f"{show_name(row)}, {row['dtype']}{cache}", []).append(_line(row))
    for name, some in groups.items():
        lines += [name, *some]
    return "\n".join(lines)


def _line(row):
    start = f"{row.get('prompt', ''):>11}"
    if "error" in row:
        return f"{start}  {row['error']}"
    over = f"{row['over_bytes']:.2f} x" if "over_bytes" in row else ""
    ratios = [f"{row[key]:.2f} x" if row["name"] != "tfguide" else "" for key in ("ratio", "prompt_ratio")]
    return (
        f"{start}{1e3 * row['seconds']:>9.2f}{over:>10}{ratios[0]:>9}{row['prompt_tokens_per_second']:>11.1f}"
        f"{row['over_operations']:>7.2f} x{ratios[1]:>9}"
    ).rstrip()


def _same(one):
    return lambda: one


def _options(kind):
    return {} if kind is None else {"cache_dtype": kind}


def _load_llama(folder, dtype):
    """The model, or None and why there is none."""
    if not has_llama_cpp():
        return None, "llama-cpp-python is not installed"
    try:
        return LlamaModel(find_gguf(folder, dtype)), None
    except Exception as error:  # ours are still worth timing
        return None, f"{type(error).__name__}: {error}"
