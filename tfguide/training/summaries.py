"""A run of the small summariser: from the docstrings of the Python that runs to a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from tfguide.generation import generate
from tfguide.tasks import documentation, summarisation
from tfguide.tasks.docstrings import rouge
from tfguide.text import read_tokenizer
from tfguide.training.loop import Record
from tfguide.training.pairs import train_pairs
from tfguide.training.recipe import Recipe

RECIPE = Recipe(steps=1600, rows=16, length=summarisation.SOURCE_TOKENS, measure_every=400)
MEASURED = 60  # held-out texts


def train_summariser(
    framework: str, folder: str | os.PathLike, recipe: Recipe = RECIPE, resume: bool = False, command: str = ""
) -> Iterator[Record]:
    """Train the encoder-decoder of `summarisation.model_config` on docstrings; yields a record after each step.

    The folder is that of `train_pairs`, with the tokenizer. The score is ROUGE-1 on held-out texts. Raises as
    `train_pairs`, and ImportError where rouge-score is not installed.
    """
    pairs = summarisation.training_pairs()
    if resume:
        tokenizer = read_tokenizer(folder)
    else:
        texts = (part for one in pairs for part in (one.text, one.summary))
        tokenizer = documentation.train_tokenizer(texts, summarisation.VOCABULARY)
    held_out = summarisation.sample(summarisation.parts()[1], MEASURED)
    sources = [source for source, _ in summarisation.token_pairs(tokenizer, held_out)]

    def measure(model: Any) -> float:
        rows = generate(model, sources, summarisation.SUMMARY_TOKENS)
        return rouge([tokenizer.decode(row) for row in rows], [one.summary for one in held_out])["rouge1"]

    config = summarisation.model_config(tokenizer.get_vocab_size())
    files = {"tokenizer.json": tokenizer.to_str()}
    tokens = summarisation.token_pairs(tokenizer, pairs)
    yield from train_pairs(framework, folder, config, recipe, tokens, files, measure, None, resume, command)
