"""`python -m tfguide.bench.engine_steps`: how long the steps of an engine take, by what they compute and read.

From these `tfguide.cost.fit_step_cost` finds the three numbers of a step, and from them how many requests a server
takes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench.ours import load_ours
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.bench.workload import answer_lengths, prompt_lengths
from tfguide.checks.values import check_count
from tfguide.loading import DTYPES, FRAMEWORKS, find_checkpoint
from tfguide.serving import Engine, Request
from tfguide.serving.scheduler import TOKENS

ROWS = (1, 4, 16, 32, 64)
GROUPS = 4


class Watched:
    """A model that notes the tokens that it was given, and the positions of the cache that were read for them."""

    def __init__(self, model: Any):
        self.model, self.config = model, model.config
        self.new_storage, self.new_paged_cache = model.new_storage, model.new_paged_cache
        self.n_tokens = self.n_positions = 0

    def decode_rows(self, tokens: np.ndarray, rows: np.ndarray, cache: Any, *more: Any) -> np.ndarray:
        """As the model's."""
        logits = self.model.decode_rows(tokens, rows, cache, *more)
        self.n_tokens, self.n_positions = len(tokens), int(cache.lengths[np.unique(rows)].sum())
        return logits


def measure_steps(
    model: Any, rows: Sequence[int] = ROWS, tokens: int = TOKENS, steps: int = 120, most: int = 1000, seed: int = 0
) -> list[dict[str, float]]:
    """Steps of an engine that always has as many texts as rows, with lengths as in `tfguide bench serve`.

    For each number of rows the steps are put into GROUPS of equal size by the tokens that they computed. A row says the
    median "tokens", "positions" and "seconds" of a group. steps: for each number of rows; as
    many pass before. most: tokens of a prompt or an answer. Raises ValueError for counts below 1, and as `Engine`.
    """
    check_count("steps", steps, least=GROUPS)
    rng, found = np.random.default_rng(seed), []
    for n in rows:
        watched = Watched(model)
        n_blocks = (check_count("rows", n) + 1) * 1024 // 16  # one text more than 1024 positions for each
        engine = Engine(watched, n_blocks=n_blocks, rows=n, tokens=max(tokens, n), share_prefixes=False)
        n_texts = n + 2 * steps  # a text has one step at least
        prompts, answers = (
            np.minimum(lengths(n_texts, seed), most).tolist() for lengths in (prompt_lengths, answer_lengths)
        )
        seen = []
        for i in range(2 * steps):
            while len(engine.scheduler.running) + len(engine.scheduler.waiting) < n:
                prompt = rng.integers(0, model.config.vocab_size, prompts.pop())
                engine.add(Request(prompt=prompt, max_new_tokens=answers.pop(), stop_tokens=()))
            start = time.perf_counter()
            engine.step()
            seconds = time.perf_counter() - start
            if i >= steps:
                seen.append((watched.n_tokens, watched.n_positions, seconds))
        for group in np.array_split(np.array(sorted(seen)), GROUPS):
            middle = np.median(group, axis=0).tolist()
            found.append({"rows": n} | dict(zip(("tokens", "positions", "seconds"), middle, strict=True)))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.engine_steps", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="default: SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; default: as in the file")
    parser.add_argument(
        "--rows", type=int, nargs="+", default=ROWS, metavar="N", help="texts at once; default: 1 to 64"
    )
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a step at most; default: 128")
    parser.add_argument("--steps", type=int, default=120, help="for each number of rows; default: 120")
    parser.add_argument("--json", metavar="FILE", help="write the result there")
    options = parser.parse_args(arguments)
    path = find_checkpoint(options.model)
    model = load_ours(options.framework, path, options.dtype)
    found = measure_steps(model, options.rows, options.tokens, options.steps)
    print("rows   tokens   positions   ms")
    for row in found:
        print(f"{row['rows']:>4}{row['tokens']:>9.1f}{row['positions']:>12.0f}{1e3 * row['seconds']:>9.2f}")
    if options.json:
        settings = {"framework": options.framework, "dtype": options.dtype, "tokens": options.tokens,
                    "steps": options.steps}  # fmt: skip
        about = {"task": "engine steps", "machine": machine(), "model": path.name, "settings": settings}
        write_json(about | {"rows": found}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
