"""Three ways to sum up a docstring in its first line: take a sentence, ask a language model, or train a small one.

The texts and the scores are those of `tfguide.tasks.docstrings`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.tasks.docstrings import Summary, everywhere, is_held_out, sentences, summaries
from tfguide.tasks.documentation import END
from tfguide.text import read_tokenizer

REQUEST = "Summarize the following text in one short sentence.\n\n"
# Two texts that stand in the prompt with their summaries, written for it.
EXAMPLES = (
    Summary(
        "The width is given in characters. Longer lines are broken at spaces, and words that are longer than a line "
        "are cut. Raises ValueError if width is not positive.",
        "Break a text into lines of at most the given width.",
    ),
    Summary(
        "If the optional argument default is given, it is returned where there is no such key; otherwise a KeyError "
        "is raised. The order of the other items does not change.",
        "Remove a key from the mapping and return its value.",
    ),
)
VOCABULARY = 2048  # of the small model
SOURCE_TOKENS = 96  # of a text that the small model reads, its first ones
SUMMARY_TOKENS = 40
_FOLDER = Path(__file__).parent / "summary_model"


def parts(found: Sequence[Summary] | None = None) -> tuple[list[Summary], list[Summary]]:
    """The summaries to learn from, and those that are held out by their texts. found: default: `summaries()`."""
    found = summaries() if found is None else found
    held_out = [one for one in found if is_held_out(one.text)]
    return [one for one in found if not is_held_out(one.text)], held_out


def sample(held_out: Sequence[Summary], n: int, seed: int = 0) -> list[Summary]:
    """So many of the summaries, drawn from the seed; fewer are the first of more."""
    order = random.Random(seed).sample(range(len(held_out)), len(held_out))
    return [held_out[i] for i in order[: check_count("n", n)]]


def central_sentence(vectors: np.ndarray, whole: np.ndarray) -> int:
    """Which of the vectors of the sentences (n, D) is nearest to that of the whole text (D,); all have length 1.

    Source: Radev et al. 2004, section 3, with counts of words instead. Raises ValueError for no row.
    """
    if np.ndim(vectors) != 2 or not len(vectors):
        raise ValueError(f"vectors must be (n, D) with at least one row, got the shape {np.shape(vectors)}")
    return int(np.argmax(np.asarray(vectors) @ np.asarray(whole)))


def extract(text: str, embed: Callable[[list[str]], np.ndarray]) -> str:
    """The sentence of a text whose embedding is nearest to that of the text; the text itself where it is one sentence.

    embed: from n texts to vectors (n, D) of length 1.
    """
    found = sentences(text)
    if len(found) < 2:
        return text
    *vectors, whole = np.asarray(embed([*found, text]))
    return found[central_sentence(np.stack(vectors), whole)]


def messages(text: str, examples: Sequence[Summary] = EXAMPLES) -> list[dict[str, str]]:
    """What a chat model is asked, as a chat template takes it: each example with its answer, then the text."""
    said = []
    for one in examples:
        said += [{"role": "user", "content": REQUEST + one.text}, {"role": "assistant", "content": one.summary}]
    return [*said, {"role": "user", "content": REQUEST + text}]


def first_sentence(answer: str) -> str:
    """The first sentence of an answer, on one line: a model that was asked for one may go on."""
    return next(iter(sentences(" ".join(answer.split()))), "")


def training_pairs() -> list[Summary]:
    """What the small model learns from: every docstring of the standard library with a first sentence and a rest.

    Of any length and shape, and each pair once; without the texts that are held out, and without their summaries.
    """
    held_out = {one.summary for one in parts()[1]}
    pairs = {}
    for _, _, text in everywhere():
        first, _, rest = (" ".join(part.split()) for part in text.partition("\n\n"))
        if not rest:  # one paragraph
            first, *others = sentences(first) or [""]
            rest = " ".join(others)
        rest = rest.partition(">>>")[0].strip()
        if rest and first not in held_out and not is_held_out(rest) and len(first.split()) > 1:
            pairs[rest, first] = Summary(rest, first)
    return list(pairs.values())


def token_pairs(tokenizer: Any, pairs: Sequence[Summary]) -> list[tuple[list[int], list[int]]]:
    """Pairs as tokens, for `train_pairs`: the first tokens of a text, and the summary between two END."""
    end = tokenizer.token_to_id(END)
    found = []
    for one in pairs:
        source, target = (tokenizer.encode(part).ids for part in (one.text, one.summary))
        found.append((source[:SOURCE_TOKENS], [end, *target[:SUMMARY_TOKENS], end]))
    return found


def model_config(vocabulary: int = VOCABULARY) -> ModelConfig:
    """The encoder-decoder that the book trains, in T5's form: two layers each, 1.2 million weights."""
    return ModelConfig(
        kind="encoder-decoder", d_model=128, n_layers=2, n_heads=4, d_ff=384, vocab_size=vocabulary, norm="rms",
        norm_eps=1e-6, positions="relative", activation="geglu_tanh", qkv_bias=False, output_bias=False,
        ffn_bias=False, attention_scale=1.0, pad_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip


def folder() -> Path:
    """The folder of the trained model, for `load_checkpoint`, which comes with the package."""
    return _FOLDER


def tokenizer():
    """The tokenizer of the trained model, a `tokenizers.Tokenizer`. Raises as `read_tokenizer`."""
    return read_tokenizer(_FOLDER)
