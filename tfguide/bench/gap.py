"""What a step of the kernels takes beyond its bytes, found by differences between models that lack a part.

Beside the model stand one with half of its layers, one with hardly a vocabulary, and one of as many layers that are
as narrow as they can be, which reads next to nothing: with all threads, with one, and with one layer. All take turns.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.models import bytes_read, kept_model
from tfguide.bench.ours import OurRows
from tfguide.bench.timing import take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation import greedy
from tfguide.loading import load_framework, load_model

#: The parts of a step in the order in which they are shown, and what each is.
PARTS = {
    "weights": "reading the layers' weights",
    "head": "reading the head",
    "cache": "reading the cache",
    "attention": "attention beyond reading",
    "layers": "layers beyond reading",
    "head_rest": "the head beyond reading",
    "waiting": "threads waiting",
    "call": "the call: Python, checks",
    "choice": "choosing the token",
    "rest": "not explained",
}
READING = ("weights", "head", "cache")  # what no program with these types can go below
NARROW = {"d_model": 32, "n_heads": 1, "n_kv_heads": 1, "d_head": 32, "d_rotary": None, "d_ff": 32, "vocab_size": 64}


def bench_gap(
    config: ModelConfig,
    dtypes: Sequence[str],
    framework: str = "torch",
    lengths: Sequence[int] = (128, 2000),
    n_new: int = 8,
    repeats: int = 7,
    keep: Callable[[list], None] = lambda rows: None,
) -> list[dict]:
    """The parts of a step after texts of two lengths, for each type of weights: a row with the "parts" in seconds.

    The weights are random: a step takes the same time with any. lengths: two, the shorter one first. `keep` is given
    the rows after each type. Raises ValueError for counts below 1, two equal lengths, and a model of fewer than two
    layers.
    """
    short, long = sorted(check_count("lengths", length) for length in lengths)
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    if short == long:
        raise ValueError(f"expected two different lengths, got {short} twice")
    check_count("n_layers", config.n_layers, least=2)
    config = config.replace(max_positions=long + n_new)
    configs = variants(config)
    reader, rows = limits.memory_reader(), []
    for dtype in dtypes:
        times = _time(configs, dtype, framework, (short, long), n_new, repeats, reader)
        bandwidth = reader.n_bytes / times.pop("memory")
        for length in (short, long):
            total, parts = explain(times, config, dtype, (short, long), length, n_new, bandwidth)
            rows.append({
                "framework": framework, "dtype": dtype, "context": length + n_new // 2, "seconds": total,
                "parts": parts, "read_bytes_per_second": bandwidth, "measured": times,
            })  # fmt: skip
        keep(rows)
    return rows


def variants(config: ModelConfig) -> dict[str, ModelConfig]:
    """The models that are timed: the whole, and those that lack a part."""
    narrow = config.replace(**NARROW, attention_scale=None)
    return {
        "whole": config,
        "half": config.replace(n_layers=config.n_layers // 2),
        "headless": config.replace(vocab_size=NARROW["vocab_size"]),
        "narrow": narrow,
        "narrow, 1 thread": narrow,
        "narrow, 1 thread, 1 layer": narrow.replace(n_layers=1),
    }


def _time(configs, dtype, framework, lengths, n_new, repeats, reader):
    """The median seconds of a step of each variant, of the whole model after the longer text, and of a choice."""
    tg, running = load_framework(framework), {}
    for name, own in configs.items():
        with kept_model(own, None) as folder:
            model = load_model(tg, folder, dtype)
        fast = tg.accelerate(model, 1) if "1 thread" in name else tg.accelerate(model)
        for length in lengths if name == "whole" else lengths[:1]:
            tokens = np.random.default_rng(0).integers(0, own.vocab_size, (1, length))
            one = OurRows(fast, tokens, n_new)
            logits = one.read()
            running[name if length == lengths[0] else "long"] = one
        if name == "whole":
            scores = logits
    calls = {name: (lambda one=one: one.steps(n_new)) for name, one in running.items()}
    calls["choice"] = lambda: [greedy(scores) for _ in range(n_new)]
    seconds = take_turns({"memory": reader} | calls, repeats)
    found = {name: statistics.median(some) / (1 if name == "memory" else n_new) for name, some in seconds.items()}
    running.clear()
    gc.collect()
    return found


def explain(
    times: Mapping[str, float],
    config: ModelConfig,
    dtype: str,
    lengths: tuple[int, int],
    length: int,
    n_new: int,
    bandwidth: float,
) -> tuple[float, dict[str, float]]:
    """The seconds of a step after `length` positions, and its parts by the names of PARTS, which sum to them.

    times: seconds of a step, {variant: seconds}, with "long", the whole model after the longer text, and "choice".
    bandwidth: bytes a second. A part is a difference of two times, so that noise can make a small one negative.
    """
    short, long = lengths
    half, L, context = n_new // 2, config.n_layers, length + n_new // 2
    per_position = (times["long"] - times["whole"]) / (long - short)
    cache = _cache_bytes(config, dtype, context)
    head = _weights_bytes(config, dtype) - _weights_bytes(config.replace(vocab_size=NARROW["vocab_size"]), dtype)
    weights = _weights_bytes(config, dtype) - head
    layer = (times["whole"] - times["half"]) / (L - L // 2) - per_position * (short + half) / L
    waiting = times["narrow"] - times["narrow, 1 thread"]
    parts = {
        "weights": weights / bandwidth,
        "head": head / bandwidth,
        "cache": cache / bandwidth,
        "attention": per_position * context - cache / bandwidth,
        "layers": layer * L - weights / bandwidth - waiting,
        "head_rest": times["whole"] - times["headless"] - head / bandwidth,
        "waiting": waiting,
        "call": times["narrow, 1 thread, 1 layer"],
        "choice": times["choice"],
    }
    total = times["whole"] if length == short else times["long"]
    return total, parts | {"rest": total - sum(parts.values())}


def _weights_bytes(config, dtype):
    return bytes_read(config, dtype, 0)


def _cache_bytes(config, dtype, context):
    return bytes_read(config, dtype, context) - _weights_bytes(config, dtype)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The parts as lines of text: a column for each type and context, ms."""
    heads = [f"{row['dtype']}, {row['context']}" for row in rows]
    lines = [f"{'ms of a step':28}" + "".join(f"{head:>15}" for head in heads)]
    for part, words in PARTS.items():
        lines.append(f"{words:28}" + "".join(f"{1e3 * row['parts'][part]:>15.3f}" for row in rows))
    lines.append(f"{'the step':28}" + "".join(f"{1e3 * row['seconds']:>15.3f}" for row in rows))
    return "\n".join(lines)
