"""`python -m tfguide.bench.needle`: does a model find a fact that was planted in a long text?

Sentences that nobody can guess stand at even distances in the documentation of Python (`tfguide.tasks.needle`), and
each is asked for at the end. The order of the facts goes round, so that each has stood at each depth. Beside the cache
of the whole text stand caches of a part of it: the newest positions with and without the first ones, and a window in
every second layer. `--json` goes on with the file if it is there.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfguide.bench.models import read_model
from tfguide.bench.run import read_result, write_json
from tfguide.bench.timing import machine
from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, try_accelerate
from tfguide.tasks.needle import FACTS, Planted, is_found, plant
from tfguide.text import read_tokenizer

LENGTHS = (1000, 2000, 4000, 8000)
KEPT = ("all", "newest", "sinks", "half")  # what a cache keeps of the text, see `make_cache`
WINDOW, SINKS = 256, 4
ORDERS = range(len(FACTS))
N_NEW = 5  # tokens of an answer
CHUNK = 512  # tokens read at a time


def windowed(config: ModelConfig, kept: str) -> ModelConfig:
    """The configuration that keeps a part of the text: "half" is a window in every second layer, others are `config`.

    Raises ValueError for what is not in KEPT.
    """
    check_choice("kept", kept, KEPT)
    if kept != "half":
        return config
    return config.replace(sliding_window=WINDOW, sliding_layers=tuple(range(0, config.n_layers, 2)))


def make_cache(tg: Any, model: Any, kept: str, length: int) -> Any:
    """A cache of all `length` positions, or of WINDOW: the newest, or the first SINKS and fewer of the newest.

    tg: `tfguide.torch` or `tfguide.tensorflow`.
    """
    if kept in ("newest", "sinks"):
        n_sinks = SINKS if kept == "sinks" else 0
        return tg.SlidingCache(model.config, 1, WINDOW - n_sinks, n_sinks)
    return model.new_cache(1, length)


def ask_all(model: Any, cache: Any, planted: Planted, tokenizer: Any) -> list[str]:
    """What the model writes to each question, in the order of the facts in the text, which is read once into `cache`.

    Each question is asked in a copy of the cache, since a window cannot forget it again. Raises ValueError as
    `prefill`.
    """
    for at in range(0, len(planted.tokens), CHUNK):
        model.prefill(np.array([planted.tokens[at : at + CHUNK]]), cache)
    return [tokenizer.decode(_write(model, copy.deepcopy(cache), question)) for question in planted.questions]


def _write(model, cache, question):
    """N_NEW greedy tokens after a question."""
    logits, tokens = model.prefill(np.array([question]), cache), []
    for _ in range(N_NEW):
        tokens.append(int(np.asarray(logits)[0].argmax()))
        logits = model.decode(np.array(tokens[-1:]), cache)
    return tokens


def measure_needles(
    tg: Any,
    config: ModelConfig,
    weights: dict[str, np.ndarray],
    tokenizer: Any,
    lengths: Sequence[int] = LENGTHS,
    kept: Sequence[str] = ("all",),
    orders: Sequence[int] = ORDERS,
) -> Iterator[dict[str, Any]]:
    """A row for each way to keep the text, each length and each order of the facts, see `plant`.

    A row has the "depths" and "distances" of the facts, and for each whether it was "found" and what was "written".
    Raises ValueError as `plant`.
    """
    for name in kept:
        model = try_accelerate(tg, tg.from_weights(windowed(config, name), weights))
        for length in lengths:
            for order in orders:
                planted = plant(tokenizer, length, order)
                cache = make_cache(tg, model, name, length + max(map(len, planted.questions)) + N_NEW)
                written = ask_all(model, cache, planted, tokenizer)
                yield {
                    "kept": name, "length": length, "order": order, "depths": planted.depths,
                    "distances": planted.distances, "written": written,
                    "found": [is_found(*pair) for pair in zip(written, planted.answers, strict=True)],
                }  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """A row as a line of text."""
    shown = "".join("x" if found else "." for found in row["found"])
    missed = [text.strip() for text, found in zip(row["written"], row["found"], strict=True) if not found]
    return f"{row['kept']:7}{row['length']:>6}{row['order']:>3}  {shown}  {missed or ''}".rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.needle", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens of a text")
    parser.add_argument("--kept", nargs="+", choices=KEPT, default=("all",), help="what a cache keeps of the text")
    parser.add_argument("--orders", nargs="+", type=int, default=ORDERS, help="which of the facts comes first")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there, after those it has")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.model)
    config, weights = read_model(path)
    rows = read_result(options.json).get("rows", []) if options.json else []
    tg, tokenizer = load_framework(options.framework), read_tokenizer(path)
    for row in measure_needles(tg, config, weights, tokenizer, options.lengths, options.kept, options.orders):
        print(show(row), flush=True)
        rows = [old for old in rows if any(old[key] != row[key] for key in ("kept", "length", "order"))] + [row]
        if options.json:
            about = {"framework": options.framework, "model": path.name, "window": WINDOW, "sinks": SINKS}
            write_json({"task": "needle", "machine": machine(), **about, "rows": rows}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
