"""The translator of chapter 7: an encoder-decoder in T5's form, and how it is asked for translations.

The trained model comes with the package; `tfguide train --task translation` makes it again.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.config import ModelConfig
from tfguide.generation import beam_search, generate
from tfguide.tasks.own import exact_match
from tfguide.tasks.translation import END, HELD_OUT, PAD, START, Pair, Vocabulary, pairs

VOCABULARY = "vocabulary.json"
LONGEST = 24  # tokens of a translation; the longest of this task has 18, with its end
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


def draft_config(vocabulary: int) -> ModelConfig:
    """A smaller encoder-decoder of the same vocabulary, which drafts for the other in speculative decoding."""
    return replace(
        model_config(vocabulary),
        d_model=64,
        d_head=None,
        n_encoder_layers=1,
        n_layers=1,
        n_heads=2,
        n_kv_heads=None,
        d_ff=128,
    )


def folder() -> Path:
    """The folder of the trained model, for `load_checkpoint`, which comes with the package."""
    return _FOLDER


def draft_folder() -> Path:
    """The folder of the smaller model of `draft_config`, trained on the same pairs."""
    return _FOLDER.with_name("translation_draft")


def vocabulary() -> Vocabulary:
    """The vocabulary of the trained model."""
    return Vocabulary.read(_FOLDER / VOCABULARY)


def held_out(n: int = 1000, seed: int = 0) -> list[Pair]:
    """Pairs that the trained model has never seen: half of them numbers, close to half of unseen length."""
    return pairs(n, seed, held_out=True, kinds=HELD_OUT_TURNS)


def translate(
    model: Any, words: Vocabulary, texts: Sequence[str], n_beams: int = 1, longest: int | None = None
) -> list[str]:
    """The translation of each text, by the most likely token at each step or by beam search.

    model: an encoder-decoder of either framework; longest: tokens of a translation at most; default: LONGEST. Raises
    ValueError for a character that is not in the vocabulary, and as `generate` and `beam_search`.
    """
    sources, longest = [words.source(text) for text in texts], LONGEST if longest is None else longest
    if n_beams > 1:
        found = [best.tokens for best, *_ in beam_search(model, sources, n_beams, longest)]
    else:
        batches = [sources[start : start + BATCH] for start in range(0, len(sources), BATCH)]
        found = [tokens for batch in batches for tokens in generate(model, batch, longest)]
    return [words.text(tokens) for tokens in found]


def score(model: Any, words: Vocabulary, some: Sequence[Pair], longest: int | None = None) -> float:
    """The exact match of a model on pairs, each with the most likely token at each step."""
    found = translate(model, words, [pair.source for pair in some], longest=longest)
    return exact_match(found, [pair.target for pair in some])


def nearest_translations(texts: Sequence[str], known: Sequence[Pair]) -> list[str]:
    """A translator without a model: for each text the translation of the known source with the least edit distance.

    Of sources that are equally near the first one counts.
    """
    sources = [pair.source for pair in known]
    return [known[int(edit_distances(text, sources).argmin())].target for text in texts]


def edit_distances(text: str, others: Sequence[str]) -> np.ndarray:
    """How many characters are inserted, removed or replaced between a text and each other one, int64 (n,).

    All others at a time, a character of the text after another. Source: Wagner & Fischer 1974.

    >>> edit_distances("kitten", ["sitting", "kitten", ""]).tolist()
    [3, 0, 6]
    """
    lengths = np.array([len(other) for other in others])
    codes = np.zeros((len(others), lengths.max(initial=0)), np.int64)
    for row, other in zip(codes, others, strict=True):
        row[: len(other)] = [ord(character) for character in other]
    before = np.broadcast_to(np.arange(codes.shape[1] + 1), (len(others), codes.shape[1] + 1))
    for i, character in enumerate(text, 1):
        row = np.empty_like(before)
        row[:, 0] = i
        for j in range(1, row.shape[1]):
            replaced = before[:, j - 1] + (codes[:, j - 1] != ord(character))
            row[:, j] = np.minimum(np.minimum(before[:, j], row[:, j - 1]) + 1, replaced)
        before = row
    return before[np.arange(len(others)), lengths]


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
