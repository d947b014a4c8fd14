"""The translator of chapter 7: an encoder-decoder in T5's form, and how it is asked for translations.

The trained model comes with the package; `tfguide train --task translation` makes it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfguide.config import ModelConfig
from tfguide.generation import beam_search, generate
from tfguide.tasks.translation import END, HELD_OUT, PAD, START, Pair, Vocabulary, exact_match, pairs

VOCABULARY = "vocabulary.json"
LONGEST = 24  # tokens of a translation; the longest of this task has 16
BATCH = 100  # sources that are translated together
# Of eight pairs that are held out four are numbers and one is a time, of which there are few.
HELD_OUT_TURNS = ("number", "date", "number", "date", "number", "date", "number", "time")
_FOLDER = Path(__file__).parent / "translation_model"


def model_config(vocabulary: int) -> ModelConfig:
    """The encoder-decoder that the book trains for translation: T5's block, about a million weights.

    Relative positions, so that a place in a text of a length that was never seen is no unknown place.
    """
    return ModelConfig(
        kind="encoder-decoder", d_model=128, n_encoder_layers=3, n_layers=2, n_heads=4, d_ff=384,
        vocab_size=vocabulary, norm="rms", norm_eps=1e-6, positions="relative", relative_max_distance=32,
        activation="relu", qkv_bias=False, output_bias=False, ffn_bias=False, attention_scale=1.0, tied_head=False,
        pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=START,
    )  # fmt: skip


def folder() -> Path:
    """The folder of the trained model, for `load_checkpoint`, which comes with the package."""
    return _FOLDER


def vocabulary() -> Vocabulary:
    """The vocabulary of the trained model."""
    return Vocabulary.read(_FOLDER / VOCABULARY)


def held_out(n: int = 1000, seed: int = 0) -> list[Pair]:
    """Pairs that the trained model has never seen: half of them numbers, of which half have seven digits."""
    return pairs(n, seed, held_out=True, kinds=HELD_OUT_TURNS)


def translate(
    model: Any, words: Vocabulary, texts: Sequence[str], n_beams: int = 1, longest: int = LONGEST
) -> list[str]:
    """The translation of each text, by the most likely token at each step or by beam search.

    model: an encoder-decoder of either framework. Raises ValueError for a character that is not in the vocabulary, and
    as `generate` and `beam_search`.
    """
    sources = [words.source(text) for text in texts]
    if n_beams > 1:
        found = [best.tokens for best, *_ in beam_search(model, sources, n_beams, longest)]
    else:
        batches = [sources[start : start + BATCH] for start in range(0, len(sources), BATCH)]
        found = [tokens for batch in batches for tokens in generate(model, batch, longest)]
    return [words.text(tokens) for tokens in found]


def score(model: Any, words: Vocabulary, some: Sequence[Pair], longest: int = LONGEST) -> float:
    """The exact match of a model on pairs, each with the most likely token at each step."""
    found = translate(model, words, [pair.source for pair in some], longest=longest)
    return exact_match(found, [pair.target for pair in some])


def split_pairs(some: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs of your own: those to learn from, and one in HELD_OUT that are held out, by a checksum of the source.

    Raises ValueError where one side would be empty.
    """
    apart = [zlib.crc32(pair.source.encode()) % HELD_OUT == 0 for pair in some]
    if all(apart) or not any(apart):
        raise ValueError(f"expected enough pairs that some are held out, got {len(some)}")
    return [pair for pair, out in zip(some, apart, strict=True) if not out], [
        pair for pair, out in zip(some, apart, strict=True) if out
    ]
