"""`tfguide bench heads`: a step of decoding and the cache, for each number of key/value heads of one model.

The models have random weights and differ in nothing but the number of key/value heads. A step reads all weights and the
whole cache: with few heads the weights are a little smaller, and the cache is smaller in proportion.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.lengths import over_bytes
from tfguide.bench.models import bytes_read, kept_model
from tfguide.bench.ours import load_ours
from tfguide.bench.timing import machine, show_machine, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.cost.memory import cache_dtype


def bench_heads(
    config: ModelConfig,
    framework: str,
    dtype: str,
    n_kv_heads: Sequence[int],
    lengths: Sequence[int],
    n_new: int = 8,
    repeats: int = 5,
) -> dict:
    """Time `n_new` steps after texts of each length, with the kernels, all numbers of key/value heads in turns.

    The caches are filled with one prompt, which the rounds then forget the end of. Raises ValueError for a number that
    does not divide the heads and for counts below 1.
    """
    lengths = sorted({check_count("lengths", length) for length in lengths})
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    config = config.replace(max_positions=lengths[-1] + n_new)
    configs = {K: config.replace(n_kv_heads=K) for K in sorted(set(n_kv_heads), reverse=True)}
    reader = limits.memory_reader()
    found = limits.measure(reader)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (1, lengths[-1] + n_new))
    steps = {K: _Steps(framework, one, dtype, tokens, n_new) for K, one in configs.items()}
    rows: list[dict[str, Any]] = []
    for length in lengths:
        for one in steps.values():
            one.read_to(length)
        times = take_turns({"memory": reader} | steps, repeats)
        for K, one in configs.items():
            needed = bytes_read(one, dtype, length + n_new // 2)
            rows.append({
                "n_kv_heads": K, "prompt": length, "bytes": needed, "cache_bytes": steps[K].cache.nbytes,
                "seconds": statistics.median(times[K]) / n_new,
                "over_bytes": over_bytes(times[K], times["memory"], n_new * needed, reader.n_bytes),
                "read_bytes_per_second": reader.n_bytes / statistics.median(times["memory"]),
            })  # fmt: skip
    about = {"machine": machine(False), "config": config.to_dict(), "limits": found, "framework": framework}
    return {"task": "heads", **about, "dtype": dtype, "cache_dtype": cache_dtype(dtype), "rows": rows}


def table(result: dict) -> str:
    """The rows as lines of text."""
    lines = [show_machine(result), f"{'positions':>9}{'K':>4}{'ms/step':>9}{'of bytes':>10}{'cache MB':>10}"]
    lines += [
        f"{row['prompt']:>9}{row['n_kv_heads']:>4}{1e3 * row['seconds']:>9.2f}{row['over_bytes']:>8.2f} x"
        f"{row['cache_bytes'] / 1e6:>10.1f}"
        for row in result["rows"]
    ]
    return "\n".join(lines)


class _Steps:
    """Steps of one model after a text: a call decodes `n_new` tokens and forgets them again."""

    def __init__(self, framework, config, dtype, tokens, n_new):
        with kept_model(config, None) as folder:
            self.model = load_ours(framework, folder, dtype)
        self.cache, self.tokens, self.n_new = self.model.new_cache(1, tokens.shape[1]), tokens, n_new

    def read_to(self, length):
        done = int(self.cache.lengths[0])
        self.model.prefill(self.tokens[:, done:length], self.cache)

    def __call__(self):
        start = int(self.cache.lengths[0])
        for i in range(start, start + self.n_new):
            self.model.decode(self.tokens[:, i], self.cache)
        self.cache.rewind(start)
