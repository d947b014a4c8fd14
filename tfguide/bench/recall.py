"""`python -m tfguide.bench.recall`: recall of a fact at a growing distance, past the trained length, by positions.

Small decoders that differ in nothing but the encoding of positions have learned the task of `tfguide.tasks.recall` in
texts of at most 64 tokens. They are asked in longer ones, in both frameworks with the same weights. The models are
those that come with the package, which `--train` makes anew.
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
from tfguide.initialization import init_weights
from tfguide.loading import FRAMEWORKS, load_framework
from tfguide.tasks import recall
from tfguide.training import Recipe, learn
from tfguide.versions import versions

TRAINED = recall.LESSONS[-1].length
RECIPE = Recipe(steps=recall.LESSONS[-1].until, learning_rate=2e-3, floor=0.3, decay=0.01)
DISTANCES = (4, 8, 16, 24, 32, 48, 62, 80, 96, 128, 192, 256, 384, 510)
LENGTH = 512  # of the texts that are as long whatever the distance: 8 times the trained length
ROWS = 48  # questions at each distance


def train_recall(
    tg: Any, positions: str, recipe: Recipe = RECIPE, report: Callable[[str], None] = lambda line: None
) -> tuple[Any, list[float]]:
    """A model that has learned the lessons, and the loss of each step. report: is given a line from time to time."""
    config = recall.model_config(positions)
    trainer = tg.Trainer(tg.from_weights(config, init_weights(config, recipe.seed)), recipe)
    losses, start = [], time.perf_counter()
    for record in learn(trainer, lambda step: recall.batch_at(step, recipe.seed)):
        losses.append(record.loss)
        if record.step % 100 == 99:
            report(f"{positions}: step {record.step + 1}, loss {record.loss:.3f}, {time.perf_counter() - start:.0f} s")
    return trainer.model, losses


def scores(
    model: Any, distances: Sequence[int] = DISTANCES, length: int = LENGTH, rows: int = ROWS
) -> dict[str, list[float]]:
    """The share of right answers by distance, in texts that are as short as the distance allows, and in long ones.

    "short": the fact begins the text, but for the room that the other facts need; "long": texts of `length` tokens.
    """
    least = 2 * recall.N_FACTS + 2
    return {
        "short": [recall.score(model, max(distance + 1, least), distance, rows) for distance in distances],
        "long": [recall.score(model, length, distance, rows) for distance in distances],
    }


def measure_recall(
    tg: Any, other: Any, positions: str, weights: dict[str, np.ndarray], distances: Sequence[int] = DISTANCES
) -> dict[str, Any]:
    """A row: the scores, and how far those of the other framework with the same weights differ from them at most."""
    config = recall.model_config(positions)
    found, twin = (scores(one.from_weights(config, weights), distances) for one in (tg, other))
    difference = max(np.abs(np.subtract(found[kind], twin[kind])).max() for kind in found)
    return {"positions": positions, "distances": list(distances), **found, "difference": float(difference)}


def table(rows: Sequence[dict]) -> str:
    """The rows as a table of text."""
    lines = [f"{'distance':20}" + "".join(f"{distance:>6}" for distance in rows[0]["distances"])]
    for row in rows:
        for kind in ("short", "long"):
            about = f"{row['positions']}, {kind}"
            lines.append(f"{about:20}" + "".join(f"{share:>6.0%}" for share in row[kind]))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.recall", description=__doc__.split("\n\n")[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch", help="the other one checks the scores")
    parser.add_argument("--positions", nargs="+", choices=recall.KINDS, default=recall.KINDS, help="default: all")
    parser.add_argument("--train", metavar="FOLDER", help="train the models and write them there, in float16")
    parser.add_argument("--seed", type=int, default=0, help="of the training; default: 0")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    tg = load_framework(options.framework)
    other = load_framework(next(name for name in FRAMEWORKS if name != options.framework))
    recipe, rows = dataclasses.replace(RECIPE, seed=options.seed), []
    for positions in options.positions:
        if options.train:
            model, _ = train_recall(tg, positions, recipe, lambda line: print(line, flush=True))
            recall.save(options.train, positions, model.to_weights())
        _, weights = recall.load(positions, options.train)
        rows.append(measure_recall(tg, other, positions, weights))
        print(table(rows[-1:]), flush=True)
    if options.json:
        about = {"framework": options.framework, "trained": TRAINED, "length": LENGTH, "questions": ROWS}
        about |= {"recipe": dataclasses.asdict(recipe), "versions": versions()}
        write_json({"task": "recall", **about, "rows": rows}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
