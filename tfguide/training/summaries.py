"""The run behind the small summariser of chapter 7: first it learns to copy, then to sum up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfguide.generation import generate
from tfguide.tasks import documentation, summarisation
from tfguide.tasks.docstrings import read_summaries, rouge
from tfguide.text import read_tokenizer
from tfguide.training.batches import Batch
from tfguide.training.loop import Record
from tfguide.training.pairs import PairBatches, TokenPair, pair_batch, train_pairs
from tfguide.training.recipe import Recipe

RECIPE = Recipe(steps=1500, rows=16, length=summarisation.SOURCE_TOKENS, measure_every=500)
COPIES = 0.46  # of the steps: the first ones
COPIED = (6, 24)  # tokens of a piece that is copied
MEASURED = 60  # held-out texts


class CopyThenSummarise:
    """The batch of each step: for the first `COPIES` of the steps pieces of text that are copied, then summaries.

    Copying needs no data that somebody wrote, and it teaches the decoder to look at the source.
    """

    def __init__(self, pairs: Sequence[TokenPair], recipe: Recipe, end: int):
        self.recipe, self.end = recipe, end
        self.text = np.concatenate([[*source, *target[1:-1]] for source, target in pairs])
        self.summaries, self.copies = PairBatches(pairs, recipe, sorted_batches=2), int(COPIES * recipe.steps)

    def __call__(self, step: int) -> Batch:
        """The batch of a step, from 0."""
        if step >= self.copies:
            return self.summaries(step - self.copies)
        draws = np.random.default_rng([self.recipe.seed, step])
        length = int(draws.integers(*COPIED))
        starts = draws.integers(0, len(self.text) - length, 2 * self.recipe.rows)
        pieces = [self.text[start : start + length].tolist() for start in starts]
        return pair_batch([(piece, [self.end, *piece, self.end]) for piece in pieces])


def train_summariser(
    framework: str,
    folder: str | os.PathLike,
    recipe: Recipe = RECIPE,
    text: str | os.PathLike | None = None,
    resume: bool = False,
    command: str = "",
) -> Iterator[Record]:
    """Train the small encoder-decoder on texts with their summaries; yields a record after each step.

    text: a file of texts of your own with their summaries, as `read_summaries` takes it; default: the docstrings of the
    Python that runs. The folder is that of `train_pairs`, with the tokenizer. The score is ROUGE-1 on MEASURED held-out
    texts. Raises as `train_pairs`, and ImportError where rouge-score is not installed.
    """
    known, held_out = summarisation.parts(read_summaries(text) if text else None)
    known = known if text else summarisation.training_pairs()
    if resume:
        tokenizer = read_tokenizer(folder)
    else:
        texts = (part for one in known for part in (one.text, one.summary))
        tokenizer = documentation.train_tokenizer(texts, summarisation.VOCABULARY)
    held_out = summarisation.sample(held_out, MEASURED)
    sources = [source for source, _ in summarisation.token_pairs(tokenizer, held_out)]

    def measure(model: Any) -> float:
        rows = generate(model, sources, summarisation.SUMMARY_TOKENS)
        return rouge([tokenizer.decode(row) for row in rows], [one.summary for one in held_out])["rouge1"]

    config = summarisation.model_config(tokenizer.get_vocab_size())
    pairs = summarisation.token_pairs(tokenizer, known)
    yield from train_pairs(
        framework, folder, config, recipe, pairs, {"tokenizer.json": tokenizer.to_str()}, measure,
        {"measured": len(held_out)}, resume, command,
        batches=CopyThenSummarise(pairs, recipe, config.eos_token_id),
    )  # fmt: skip
