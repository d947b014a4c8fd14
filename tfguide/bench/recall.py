"""`python -m tfguide.bench.recall`: recall of a fact at a growing distance, past the trained length, by positions.

Small decoders that differ in nothing but the encoding of positions learn the task of `tfguide.tasks.recall` in texts of
at most 64 tokens. Then they are asked in longer ones for a fact at the beginning, in both frameworks with the same
weights. `--json` goes on with the file if it is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfguide.bench.run import write_json
from tfguide.bench.trade import go_on
from tfguide.initialization import init_weights
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import recall
from tfguide.training import Recipe, learn
from tfguide.versions import versions

TRAINED = recall.LESSONS[-1].length
RECIPE = Recipe(steps=recall.LESSONS[-1].until, learning_rate=2e-3, floor=0.3, decay=0.01)
DISTANCES = (4, 8, 16, 24, 32, 48, 62, 80, 96, 128, 192, 256, 384, 510)
LENGTH = 512  # of the texts that are as long whatever the distance: 8 times the trained length


def train_recall(
    tg: Any, positions: str, recipe: Recipe = RECIPE, report: Callable[[str], None] = lambda line: None
) -> tuple[Any, list[float]]:
    """A model that has learned the lessons, and the loss of each step. report: is given a line from time to time."""
    config = recall.model_config(positions)
    trainer = tg.Trainer(tg.from_weights(config, init_weights(config, recipe.seed)), recipe)
    losses, start = [], time.perf_counter()
    for record in learn(trainer, lambda step: recall.batch_at(step, recipe.seed)):
        losses.append(round(record.loss, 4))
        if record.step % 100 == 99:
            report(f"{positions}: step {record.step + 1}, loss {record.loss:.3f}, {time.perf_counter() - start:.0f} s")
    return trainer.model, losses


def scores(model: Any, distances: Sequence[int] = DISTANCES, length: int = LENGTH, rows: int = 256) -> dict[str, list]:
    """The share of right answers by distance, in texts that are as short as the distance allows, and in long ones.

    "short": the fact begins the text, but for the room that the other facts need; "long": texts of `length` tokens.
    """
    least = 2 * recall.N_FACTS + 2
    return {
        "distances": list(distances),
        "short": [recall.score(model, max(distance + 1, least), distance, rows) for distance in distances],
        "long": [recall.score(model, length, distance, rows // 4) for distance in distances],
    }


def measure_recall(
    tg: Any,
    other: Any,
    positions: str,
    recipe: Recipe = RECIPE,
    report: Callable[[str], None] = lambda line: None,
    keep: str | None = None,
) -> dict[str, Any]:
    """A row: the losses, the scores, and how far the scores of the other framework with the same weights differ.

    keep: a folder for the weights. Those that are scored are the ones that were trained, in float32.
    """  # fmt: skip
    model, losses = train_recall(tg, positions, recipe, report)
    if keep is not None:
        recall.save(keep, positions, model.to_weights())
    found, twin = scores(model), other.from_weights(model.config, model.to_weights())
    agree = scores(twin)
    difference = max(np.abs(np.subtract(found[kind], agree[kind])).max() for kind in ("short", "long"))
    return {"positions": positions, "seed": recipe.seed, "loss": losses, **found, "difference": float(difference)}


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'distance':16}" + "".join(f"{distance:>6}" for distance in rows[0]["distances"])]
    for row in rows:
        for kind in ("short", "long"):
            about = f"{row['positions']}, {row['seed']}, {kind}"
            lines.append(f"{about:22}" + "".join(f"{share:>6.0%}" for share in row[kind]))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.recall", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="that trains; the other one checks")
    parser.add_argument("--positions", nargs="+", choices=recall.KINDS, default=recall.KINDS, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,), help="default: 0")
    parser.add_argument("--keep", metavar="FOLDER", help="write the weights of the last seed there, in float16")
    parser.add_argument("--json", metavar="FILE", required=True, help="the result, which is gone on with")
    options = parser.parse_args(arguments)
    tg = load_framework(options.framework)
    other = load_framework(next(name for name in FRAMEWORKS if name != options.framework))
    result = go_on(options.json, "recall")
    result |= {
        "framework": options.framework, "trained": TRAINED, "length": LENGTH, "versions": versions(),
        "recipe": dataclasses.asdict(RECIPE),
    }  # fmt: skip
    for positions in options.positions:
        for seed in options.seeds:
            recipe = dataclasses.replace(RECIPE, seed=seed)
            row = measure_recall(tg, other, positions, recipe, lambda line: print(line, flush=True), options.keep)
            rows = {(old["positions"], old["seed"]): old for old in result["rows"]} | {(positions, seed): row}
            result["rows"] = [rows[key] for key in sorted(rows, key=lambda key: (recall.KINDS.index(key[0]), key[1]))]
            write_json(result, options.json)
    print(table(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
