"""The run behind the translator of chapter 7, and one on pairs of the reader's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from tfguide.config import ModelConfig
from tfguide.tasks import translator
from tfguide.tasks.translation import Vocabulary, pairs, read_pairs
from tfguide.training.loop import Record
from tfguide.training.pairs import train_pairs
from tfguide.training.recipe import Recipe

N_PAIRS = 64_000
MEASURED = 100  # held-out pairs that are translated at each measurement
RECIPE = Recipe(
    steps=2000, rows=64, length=32, learning_rate=1.5e-3, warmup=100, floor=0.02, decay=0.05, beta2=0.98,
    measure_every=200,
)  # fmt: skip
DRAFT_RECIPE = replace(RECIPE, steps=1200, learning_rate=3e-3)


def train_translation(
    framework: str,
    folder: str | os.PathLike,
    recipe: Recipe = RECIPE,
    text: str | os.PathLike | None = None,
    resume: bool = False,
    command: str = "",
    config_of: Callable[[int], ModelConfig] = translator.model_config,
) -> Iterator[Record]:
    """Train the book's translator and write it to a folder; yields a record after each step.

    text: a file of pairs of your own, as `read_pairs` takes it; default: N_PAIRS pairs of `tfguide.tasks.translation`,
    drawn by the seed of the recipe. config_of: from the size of the vocabulary to the model. The score is the exact
    match on MEASURED held-out pairs. Raises as `train_pairs`, `read_pairs` and `split_pairs`.
    """
    if text is None:
        learned, held_out = pairs(N_PAIRS, recipe.seed), translator.held_out(MEASURED, seed=1)
    else:
        learned, held_out = translator.split_pairs(read_pairs(text))
        held_out = held_out[:MEASURED]
    words = Vocabulary.of([*learned, *held_out])
    tokens = [(words.source(pair.source), words.target(pair.target)) for pair in learned]
    longest = max(len(words.target(pair.target)) for pair in [*learned, *held_out])
    yield from train_pairs(
        framework, folder, config_of(len(words)), recipe, tokens,
        {translator.VOCABULARY: words.to_json()},
        lambda model: translator.score(model, words, held_out, longest), {"measured": len(held_out)}, resume, command,
        sorted_batches=1,
    )  # fmt: skip
