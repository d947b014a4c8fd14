"""A run of an encoder-decoder, from pairs of token lists to a folder: batches, steps, and the record of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.initialization import init_weights
from tfguide.loading import load_framework
from tfguide.temporary import write_file
from tfguide.training.batches import NO_LABEL, Batch, padded, sorted_within
from tfguide.training.folders import check_folder, write_curve, write_model
from tfguide.training.loop import Record, learn
from tfguide.training.recipe import Recipe
from tfguide.training.state import load_state, save_state

TokenPair = tuple[Sequence[int], Sequence[int]]  # a source, and a target that begins with the decoder's start token

WIDTHS = 4  # widths are multiples of it, so that a graph is built for few of them


def pair_batch(pairs: Sequence[TokenPair], padding: int = 0, multiple: int = WIDTHS) -> Batch:
    """The batch of an encoder-decoder: each token of a target predicts the next one; padding counts for nothing.

    padding: the token id that fills the rows. Widths are rounded up to a `multiple`, so that a compiled step meets few
    shapes. Raises ValueError for no pair, an empty source, and a target of fewer than two tokens.
    """
    if not pairs or not all(len(source) and len(target) > 1 for source, target in pairs):
        raise ValueError("expected pairs of a source with a token and a target with two, its start and what follows")
    source = padded([source for source, _ in pairs], padding, multiple)
    target = padded([target[:-1] for _, target in pairs], padding, multiple)
    labels = padded([target[1:] for _, target in pairs], NO_LABEL, multiple)
    valid = padded([[1] * len(source) for source, _ in pairs], 0, multiple).astype(bool)
    return Batch({"source": source, "target": target, "source_valid": valid}, labels)


class PairBatches:
    """The batch of a step from pairs of token lists, for `learn`.

    A pass takes each pair at most once, in a random order that the seed of the recipe and the number of the pass
    decide: shuffled, sorted by length within `sorted_batches` batches, and the batches shuffled again. More sorted
    together is less padding, and batches that are less alike: where the length tells the kind of a pair, 1 learns
    better. A run that is resumed takes the same batches. Raises ValueError for fewer pairs than a batch has rows, for a
    source or a target of more than `recipe.length` tokens, and as `pair_batch`.
    """

    def __init__(self, pairs: Sequence[TokenPair], recipe: Recipe, padding: int = 0, sorted_batches: int = 8):
        self.sorted_batches = check_count("sorted_batches", sorted_batches)
        self.pairs, self.recipe, self.padding = pairs, recipe, padding
        if len(pairs) < recipe.rows:
            raise ValueError(f"expected at least the {recipe.rows} pairs of one batch, got {len(pairs)}")
        self._lengths = np.array([(len(target), len(source)) for source, target in pairs])
        if self._lengths.max() > recipe.length:
            raise ValueError(
                f"a text has {self._lengths.max()} tokens, more than the length={recipe.length} of the recipe"
            )
        self._pass, self._order = -1, None

    def __call__(self, step: int) -> Batch:
        """The batch of a step, from 0."""
        number, at = divmod(step, len(self.pairs) // self.recipe.rows)
        if number != self._pass:
            self._pass, self._order = number, self._shuffled(number)
        return pair_batch([self.pairs[i] for i in self._order[at]], self.padding)

    def _shuffled(self, number):
        """The pairs of each batch of a pass, (batches, rows)."""
        rows = self.recipe.rows
        draws = np.random.default_rng([self.recipe.seed, number])
        order = sorted_within(draws.permutation(len(self.pairs)), self._lengths, rows * self.sorted_batches)
        batches = order[: len(order) // rows * rows].reshape(-1, rows)
        return batches[draws.permutation(len(batches))]


def train_pairs(
    framework: str,
    folder: str | os.PathLike,
    config: ModelConfig,
    recipe: Recipe,
    pairs: Sequence[TokenPair],
    files: Mapping[str, str],
    measure: Callable[[Any], float] | None = None,
    facts: Mapping[str, Any] | None = None,
    resume: bool = False,
    command: str = "",
    sorted_batches: int = 8,
    batches: Callable[[int], Batch] | None = None,
) -> Iterator[Record]:
    """Train an encoder-decoder on pairs of token lists and write it to a folder; yields a record after each step.

    pairs, sorted_batches: as `PairBatches` takes them; files: what the folder holds besides, by name, such as the
    vocabulary. measure: the score of a model on what it does not train on, at every `recipe.measure_every` steps and
    the last, when the state is saved too, so that `resume` goes on from there, in either framework. At the end the
    folder has what `load_checkpoint` reads, with weights in float16, and curve.json, with `facts`, `command`, the
    versions and the machine. batches: the batch of each step, as `learn` takes it; default: `PairBatches`.

    Raises FileExistsError, FileNotFoundError and ValueError as `train_folder`, and ValueError as `PairBatches`.
    """
    folder, package = Path(folder), load_framework(framework)
    check_folder(folder, resume)
    batches = batches or PairBatches(pairs, recipe, config.pad_token_id or 0, sorted_batches)
    trainer = package.Trainer(package.from_weights(config, init_weights(config, recipe.seed)), recipe)
    records = load_state(folder, trainer) if resume else []
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_file(folder / name, text)
    for record in learn(trainer, batches, start=len(records)):
        done = record.step + 1
        if at_rest := done % recipe.measure_every == 0 or done == recipe.steps:
            record = replace(record, score=None if measure is None else measure(trainer.model))
        records.append(record)
        if at_rest:
            save_state(folder, trainer, records)
        yield record
    own = {"framework": framework, "command": command, "pairs": len(pairs), **(facts or {})}
    write_curve(folder, own, recipe, records)
    write_model(folder, config, trainer.model.to_weights())
