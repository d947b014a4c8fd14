"""`python -m tfguide.bench.windows`: how well a model predicts a text of which its cache holds a part.

Caches of one size are compared: the newest positions alone, or some of the first ones, the sinks, and fewer of the
newest. Beside them stands a window in every second layer only, and the whole text.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench.caches import losses_through, read_documentation
from tfguide.bench.models import read_model
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_text_tokens
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, try_accelerate

SIZES, SINKS = (64, 256, 1024), (0, 1, 4)
PART = 256  # positions of a part of the text


def measure_windows(
    tg: Any,
    config: ModelConfig,
    weights: dict[str, np.ndarray],
    tokens: Sequence[int],
    sizes: Sequence[int] = SIZES,
    sinks: Sequence[int] = SINKS,
) -> list[dict]:
    """A row for the whole text, for each size with each number of sinks, and for each window in every second layer.

    tg: `tfguide.torch` or `tfguide.tensorflow`. tokens: (n,), of which the first n - 1 are read, 32 at a time, and the
    last n - 1 count. sizes: positions of a cache; `sinks` of them are the first ones of the text. A row has the
    "perplexity", that of each part of PART positions ("parts"), and the bytes of the cache. Raises ValueError for fewer
    than 2 tokens, a size that the sinks fill, or a model with windows of its own.
    """
    tokens = check_text_tokens(tokens, config.vocab_size)
    n = check_count("the number of tokens", len(tokens), least=2) - 1
    if config.sliding_window is not None:
        raise ValueError(f"expected a model without windows, got one with sliding_window={config.sliding_window}")
    if min(sizes) <= max(sinks):
        raise ValueError(f"a cache must have room for more than its sinks, got {min(sizes)} and {max(sinks)}")
    model = try_accelerate(tg, tg.from_weights(config, weights))
    rows = [_row(model, model.new_cache(1, n), tokens, size=n, sinks=0, layers="all")]
    for size in sizes:
        for n_sinks in sinks:
            cache = tg.SlidingCache(config, 1, size - n_sinks, n_sinks)
            rows.append(_row(model, cache, tokens, size=size, sinks=n_sinks, layers="all"))
        half = config.replace(sliding_window=size, sliding_layers=tuple(range(0, config.n_layers, 2)))
        windowed = try_accelerate(tg, tg.from_weights(half, weights))
        rows.append(_row(windowed, windowed.new_cache(1, n), tokens, size=size, sinks=0, layers="every second"))
    return rows


def _row(model, cache, tokens, **about):
    """The text read through one cache."""
    losses = losses_through(model, cache, tokens)
    return about | {
        "perplexity": math.exp(losses.mean()),
        "parts": [math.exp(losses[at : at + PART].mean()) for at in range(0, len(losses), PART)],
        "bytes": cache.nbytes,
    }


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'positions':>9}{'sinks':>7}  {'layers':14}{'perplexity':>11}{'MB':>8}"]
    for row in rows:
        about = f"{row['size']:>9}{row['sinks']:>7}  {row['layers']:14}"
        lines.append(f"{about}{row['perplexity']:11.2f}{row['bytes'] / 1e6:8.1f}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.windows", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--positions", type=int, default=2048, help="of Python's documentation; default: 2048")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="positions of a cache")
    parser.add_argument("--sinks", nargs="+", type=int, default=SINKS, help="how many of them are the first ones")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.model)
    config, weights = read_model(path)
    tokens = read_documentation(path, options.positions)
    rows = measure_windows(load_framework(options.framework), config, weights, tokens, options.sizes, options.sinks)
    print(table(rows))
    if options.json:
        about = {"framework": options.framework, "model": path.name, "positions": len(tokens) - 1, "part": PART}
        write_json({"task": "windows", "machine": machine(), **about, "rows": rows}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
