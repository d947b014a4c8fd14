"""`python -m tfguide.bench.repair`: what further training gives back to a model that lost heads, neurons or layers.

The model itself is trained further by the same recipe, since some of what a repaired model gains comes from seeing more
text, and not from being repaired.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.bench.models import read_model
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.bench.trade import find_model_path, go_on, model_perplexity, read_learned
from tfguide.bench.variants import SMALLER, VARIANTS
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import documentation
from tfguide.text import read_tokenizer
from tfguide.training import Recipe, train

RECIPE = Recipe(steps=200, warmup=20, learning_rate=1e-3, measure_every=25, seed=1)
WHOLE = "float32"  # the variant that loses nothing
BROKEN = tuple(variant.name for variant in VARIANTS if variant.family == SMALLER)


def repair(tg: Any, model: Any, learned: np.ndarray, held_out: np.ndarray, recipe: Recipe) -> Iterator[dict]:
    """Train a model, which is changed, on tokens (n,); yields the perplexity of held_out before and as it falls.

    {"steps": 0, "perplexity": ...}, and one after each `measure_every` steps. Raises as `Trainer`.
    """
    yield {"steps": 0, "perplexity": model_perplexity(model, held_out)}
    for record in train(tg.Trainer(model, recipe), learned, held_out):
        if record.perplexity is not None:
            yield {"steps": record.step + 1, "perplexity": record.perplexity}


def table(rows: Sequence[dict]) -> str:
    """A line for each model: perplexity before, and by steps."""
    return "\n".join(
        f"{row['name']:20}" + "".join(f"{one['perplexity']:>12,.1f}" for one in row["curve"]) for row in rows
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.repair", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", default="documentation", help="default: the book's own")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=(WHOLE, *BROKEN), default=(WHOLE, *BROKEN))
    parser.add_argument("--tokens", type=int, default=4096, help="of the held-out text; default: 4096")
    for name in ("steps", "rows", "warmup", "learning_rate", "measure_every"):
        default = getattr(RECIPE, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, metavar="N")
    parser.add_argument("--keep", metavar="FOLDER", help="write each repaired model there, for trade --repaired")
    parser.add_argument("--json", metavar="FILE", required=True, help="the result, which is gone on with")
    options = parser.parse_args(arguments)
    tg, path = load_framework(options.framework), find_model_path(options.model)
    config, weights = read_model(path)
    tokenizer, file = read_tokenizer(path), Path(options.json)
    fields = ("steps", "rows", "warmup", "learning_rate", "measure_every")
    recipe = dataclasses.replace(RECIPE, **{name: vars(options)[name] for name in fields})
    learned, calibration = read_learned(tokenizer)
    held_out = np.array(tokenizer.encode(documentation.held_out()).ids[: options.tokens])
    result = go_on(file, "repair", machine())
    result |= {
        "machine": machine(), "model": path.name, "framework": options.framework, "tokens": len(held_out),
        "learned_tokens": len(learned), "recipe": dataclasses.asdict(recipe),
    }  # fmt: skip
    for variant in VARIANTS:
        if variant.name not in options.only:
            continue
        model = variant.make(tg, tg.from_weights(config, weights), calibration)
        row: dict[str, Any] = {"name": variant.name, "curve": []}
        result["rows"] = [*(other for other in result["rows"] if other["name"] != variant.name), row]
        start = time.perf_counter()
        for point in repair(tg, model, learned, held_out, recipe):
            row["curve"].append(point)
        row["minutes"] = (time.perf_counter() - start) / 60
        if options.keep:
            tg.save_checkpoint(model, Path(options.keep) / variant.name, overwrite=True)
        write_json(result, options.json)
    print(table(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
