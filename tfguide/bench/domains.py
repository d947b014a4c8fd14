"""`python -m tfguide.bench.domains --part digits`: models of chapter 9 that read images, or sounds with `tones`.

Trained in both frameworks: scores on what is held out, of the book's model and of others that differ in one thing; of
simple baselines; and of the book's model in fewer bits. Nothing is timed, so that the machine does not matter.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfguide.bench.models import weights_size
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine
from tfguide.config import ModelConfig
from tfguide.cost import parameters
from tfguide.initialization import init_weights
from tfguide.loading import load_framework
from tfguide.tasks import digits, tones
from tfguide.training import NO_LABEL, Batch, Recipe, learn

PARTS = ("digits", "tones")
FIRST = 20  # losses of a run that are kept, to compare the frameworks
NOISES = (0.1, 0.2, 0.3, 0.4, 0.5)
LONGER = (12,)  # digits of recordings that are longer than all that were learned


@dataclass(frozen=True)
class Task:
    """What is learned and what is asked.

    held_out: sets of what is held out by name, each as one batch; score: from the name of a set and the predicted
    labels of its batch to {metric: value}; the first set is the one that counts.
    """

    about: str
    config: ModelConfig
    batch_at: Callable[[int], Batch]
    held_out: Mapping[str, Batch]
    score: Callable[[str, np.ndarray], Mapping[str, float]]
    recipe: Recipe
    first_weights: Callable[[ModelConfig, int], dict[str, np.ndarray]] = init_weights


def measure(framework: str, task: Task, seed: int = 0, smaller: bool = False) -> Iterator[dict[str, Any]]:
    """Train a model on a task; a row for each set that is held out.

    A row has "about", "framework", "seed", "set", "scores", "steps", "tokens" (of the longest input of the set),
    "parameters", "n_bytes" of the weights, and "losses" of the first steps. smaller: also a row of the first set for
    each way to make the model smaller.
    """
    tg = load_framework(framework)
    model = tg.from_weights(task.config, task.first_weights(task.config, seed))
    losses = [record.loss for record in learn(tg.Trainer(model, task.recipe), task.batch_at)]

    def row(about, name, model, n_bytes):
        batch = task.held_out[name]
        return {
            "about": about, "framework": framework, "seed": seed, "set": name,
            "scores": dict(task.score(name, predict(framework, model, batch))), "steps": task.recipe.steps,
            "tokens": batch.inputs["tokens"].shape[1], "parameters": parameters(task.config), "n_bytes": n_bytes,
            "losses": losses[:FIRST],
        }  # fmt: skip

    whole = weights_size(task.config, None)["n_bytes"]
    for name in task.held_out:
        yield row(task.about, name, model, whole)
    if smaller:
        first = next(iter(task.held_out))
        yield row("bfloat16", first, tg.from_weights(task.config, model.to_weights(), "bfloat16"), whole // 2)
        for bits in (8, 4):
            fewer = tg.quantize(model, bits, group_size=16)
            yield row(f"{bits} bits", first, fewer, weights_size(task.config, fewer.quantization)["n_bytes"])
        yield row("half of each matrix", first, tg.prune_magnitude(model, 0.5), whole)


def predict(framework: str, model: Any, batch: Batch) -> np.ndarray:
    """The most probable labels of a batch, in the shape of its labels."""
    without_gradients = contextlib.nullcontext
    if framework == "torch":
        from torch import inference_mode as without_gradients
    with without_gradients():
        logits = model.classify(model(**batch.inputs), batch.inputs.get("valid"))
        if framework == "torch":
            logits = logits.float()
        return np.asarray(logits).argmax(-1)


def digits_task(about: str, size: int = 2, split: str = "every fifth", shifts: int = 1, **changes: object) -> Task:
    """The images of a split in patches of `size`, learned with shifts; changes: fields of the model that differ."""
    learned, held_out = digits.read_digits(split)
    return Task(
        about,
        digits.model_config(size, **changes),
        digits.batches(learned, digits.RECIPE.rows, size, shifts=shifts),
        {split: Batch({"tokens": digits.patches(held_out.pixels, size)}, held_out.labels)},
        lambda name, labels: {"accuracy": digits.accuracy(labels, held_out.labels)},
        digits.RECIPE,
        digits.first_weights,
    )


def tones_task(about: str, learned: int = 800, held_out: int = 150, alone: bool = False) -> Task:
    """Recordings of a seed to learn from, and others that are held out: as learned, by noise, and longer.

    alone: cut into single patches, none of which sees another.
    """
    some = {"as learned": tones.recordings(held_out, seed=1)}
    some |= {f"noise {noise}": tones.recordings(held_out, seed=2, noise=noise) for noise in NOISES}
    some["longer"] = tones.recordings(held_out, seed=3, lengths=LONGER)
    cut = {name: [tones.patches(one) for one in recordings] for name, recordings in some.items()}
    batches = {name: tones.batch(pairs) for name, pairs in cut.items()}

    def score(name, labels):
        labels = labels.reshape(batches[name].labels.shape)
        real = batches[name].inputs["valid"]
        given = [tones.collapse(row[valid]) for row, valid in zip(labels, real, strict=True)]
        found = tones.scores(given, [one.digits for one in some[name]])
        return found | {"patches": float((labels == batches[name].labels)[real].mean())}

    batch_at = tones.batches(tones.recordings(learned, seed=0), tones.RECIPE.rows)
    if alone:
        return Task(
            about, tones.model_config(), lambda step: singles(batch_at(step)),
            {name: singles(batch, padding=True) for name, batch in batches.items()}, score, tones.RECIPE,
        )  # fmt: skip
    return Task(about, tones.model_config(), batch_at, batches, score, tones.RECIPE)


def singles(batch: Batch, padding: bool = False) -> Batch:
    """The patches of a batch (B, T) as texts of one patch each: (n, 1), or (B * T, 1) with padding."""
    some = batch.labels > NO_LABEL
    some |= padding
    return Batch({"tokens": batch.inputs["tokens"][some][:, None]}, batch.labels[some][:, None])


def digits_baselines() -> list[dict[str, Any]]:
    """Logistic regression and the three nearest neighbours on the pixels of both splits. Needs scikit-learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    rows = []
    for split in digits.SPLITS:
        learned, held_out = digits.read_digits(split)
        pixels, asked = (part.pixels.reshape(len(part), -1) for part in (learned, held_out))
        for about, model in (
            ("logistic regression", LogisticRegression(max_iter=1000)),
            ("three nearest neighbours", KNeighborsClassifier(3)),
        ):
            found = model.fit(pixels, learned.labels).predict(asked)
            rows.append(_baseline(about, split, {"accuracy": digits.accuracy(found, held_out.labels)}))
    return rows


def tones_baseline(task: Task) -> list[dict[str, Any]]:
    """Logistic regression on each patch of a task of tones. Needs scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    batches = [task.batch_at(step) for step in range(12)]
    real = [batch.labels >= 0 for batch in batches]
    inputs = np.concatenate([batch.inputs["tokens"][some] for batch, some in zip(batches, real, strict=True)])
    labels = np.concatenate([batch.labels[some] for batch, some in zip(batches, real, strict=True)])
    model = LogisticRegression(max_iter=1000, tol=1e-3).fit(inputs, labels)
    rows = []
    for name, batch in task.held_out.items():
        found = model.predict(batch.inputs["tokens"].reshape(-1, inputs.shape[1]))
        rows.append(_baseline("logistic regression", name, dict(task.score(name, found))))
    return rows


def _baseline(about, name, scores):
    return {"about": about, "framework": "scikit-learn", "set": name, "scores": scores, "tokens": 0, "parameters": 0}


def measure_part(part: str, steps: int | None = None) -> Iterator[dict[str, Any]]:
    """All rows of a part of PARTS. steps: instead of the recipe's, to try it."""

    def shorter(task):
        return task if steps is None else replace(task, recipe=replace(task.recipe, steps=steps, warmup=0))

    if part == "tones":
        base = shorter(tones_task("the book's model"))
        for framework in ("torch", "tensorflow"):
            yield from measure(framework, base, smaller=True)
        yield from measure("torch", shorter(tones_task("each patch alone", alone=True)))
        yield from tones_baseline(base)
        return
    yield from digits_baselines()
    base = shorter(digits_task("the book's model"))
    for framework in ("torch", "tensorflow"):
        yield from measure(framework, base, smaller=True)
    for task in (
        digits_task("without shifts", shifts=0),
        digits_task("without positions", positions="none"),
        digits_task("patches of 4 x 4", size=4),
        digits_task("the book's model", split="last fifth"),
    ):
        yield from measure("torch", shorter(task))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure a part, print a line for each row, and write JSON where it is asked for."""
    parser = argparse.ArgumentParser("python -m tfguide.bench.domains", description=__doc__)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--steps", type=int, help="fewer steps than the recipe has, to try it")
    parser.add_argument("--json", help="write the rows to this file")
    options = parser.parse_args(argv)
    rows = []
    for row in measure_part(options.part, options.steps):
        rows.append(row)
        scores = "  ".join(f"{metric} {value:.3f}" for metric, value in row["scores"].items())
        print(f"{row['about']:26}{row['framework']:14}{row['set']:14}{scores}", flush=True)
        if options.json:
            write_json({"machine": machine(), "part": options.part, "rows": rows}, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
