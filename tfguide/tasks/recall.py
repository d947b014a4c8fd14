"""Recall at a distance: keys with their values lie in noise, and a key comes again. The text is synthetic.

A text is a row of tokens of three kinds. A fact is a key and the value behind it. Where a key comes again, the right
next token is its value; of everything else nothing can be known. So a model that answers has found the key in the text,
at whatever distance, and read what stands behind it. Source: the task of Arora et al. 2023, with noise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.training.batches import NO_LABEL, Batch

N_KEYS, N_VALUES, N_NOISE = 8, 8, 16  # tokens of each kind
VOCABULARY = N_KEYS + N_VALUES + N_NOISE  # keys come first, then values, then noise
N_FACTS = 4  # of a text
KINDS = ("sinusoidal", "rotary", "alibi", "none")  # encodings of positions that are compared

_FOLDER = Path(__file__).parent / "recall_models"


@dataclass(frozen=True)
class Lesson:
    """What the texts of a part of the training look like: up to a step, `rows` texts of `length` tokens.

    Each of `n_facts` keys comes `times` times with its value, the first time as a fact and then as a question.
    """

    until: int
    length: int
    n_facts: int
    times: int

    @property
    def rows(self) -> int:
        """How many texts a step has: about as many tokens in every lesson."""
        return max(16, 2048 // self.length)


#: From short texts to the longest. A model that begins with long ones does not learn the task in as many steps.
LESSONS = (
    Lesson(550, 8, 2, 2), Lesson(700, 12, 2, 2), Lesson(900, 16, 3, 2), Lesson(1150, 24, 4, 3), Lesson(1350, 32, 4, 3),
    Lesson(1600, 48, 4, 3), Lesson(2000, 64, 4, 3),
)  # fmt: skip


def batch_at(step: int, seed: int = 0) -> Batch:
    """The batch of a step, from 0, by the lessons. Raises ValueError behind the last one."""
    step = check_count("step", step, least=0)
    lesson = next((lesson for lesson in LESSONS if step < lesson.until), None)
    if lesson is None:
        raise ValueError(f"the lessons have {LESSONS[-1].until} steps, got step={step}")
    rng = np.random.default_rng([seed, step])
    return texts(rng, lesson.rows, lesson.length, lesson.n_facts, lesson.times)


def texts(rng: np.random.Generator, rows: int, length: int, n_facts: int = N_FACTS, times: int = 3) -> Batch:
    """Texts to learn from, (B, T), with the value as the label where a key comes again.

    Each of `n_facts` keys comes `times` times, with its value behind it, at random places. Raises ValueError where they
    do not fit into `length` tokens, or there are fewer keys than facts.
    """
    rows, length, times = check_count("rows", rows), check_count("length", length), check_count("times", times, least=2)
    _check_fit(length, 2 * times * n_facts, n_facts)
    tokens, facts = _noise(rng, rows, length), _facts(rng, rows, n_facts)
    starts = _places(rng, rows, times * n_facts, length)  # of pairs, in order
    order = rng.permuted(np.tile(np.repeat(np.arange(n_facts), times), (rows, 1)), axis=1)  # the fact of each pair
    first = np.stack([(order == fact).argmax(axis=1) for fact in range(n_facts)], axis=1)  # where a key is new
    every = np.arange(rows)[:, None]
    tokens[every, starts], tokens[every, starts + 1] = (facts[every, order, part] for part in (0, 1))
    labels = np.full((rows, length), NO_LABEL)
    labels[every, starts] = facts[every, order, 1]
    labels[every, starts[every, first]] = NO_LABEL
    return Batch({"tokens": tokens}, labels)


def questions(
    rng: np.random.Generator, rows: int, length: int, distance: int, n_facts: int = N_FACTS
) -> tuple[np.ndarray, np.ndarray]:
    """Texts (B, T) whose last token is the key of a fact that stands `distance` tokens before it, and answers (B,).

    distance: from the fact's key to its repetition; the other facts lie anywhere. Raises ValueError where the fact
    would not lie within `length` tokens, or as `texts`.
    """
    rows, length = check_count("rows", rows), check_count("length", length)
    distance = check_count("distance", distance, least=2)
    _check_fit(length - 2, 2 * n_facts, n_facts)
    at = length - 1 - distance
    if at < 0:
        raise ValueError(f"a fact at the distance {distance} does not lie within {length} tokens")
    tokens, facts = _noise(rng, rows, length), _facts(rng, rows, n_facts)
    starts = np.concatenate([np.full((rows, 1), at), _places_beside(rng, rows, n_facts - 1, length - 1, at)], axis=1)
    every = np.arange(rows)[:, None]
    tokens[every, starts], tokens[every, starts + 1] = facts[..., 0], facts[..., 1]
    tokens[:, -1] = facts[:, 0, 0]
    return tokens, facts[:, 0, 1]


def score(model, length: int, distance: int, rows: int = 256, seed: int = 1) -> float:
    """The share of questions whose answer is the most likely next token, of a decoder of either framework."""
    tokens, answers = questions(np.random.default_rng([seed, length, distance]), rows, length, distance)
    logits = np.asarray(model.score(tokens, None, 1))[:, -1]
    return float((logits.argmax(axis=-1) == answers).mean())


def model_config(positions: str) -> ModelConfig:
    """Two blocks, 70 thousand weights. The rotary base suits texts of hundreds of positions, not of thousands.

    Raises ValueError for positions that are not among KINDS.
    """
    check_choice("positions", positions, KINDS)
    return ModelConfig(
        kind="decoder", d_model=64, n_layers=2, n_heads=4, d_ff=128, vocab_size=VOCABULARY, norm="rms",
        positions=positions, rope_theta=100.0, activation="gelu", tied_head=False, output_bias=False, ffn_bias=False,
        embedding_scale=50.0,
    )  # fmt: skip


def load(positions: str, folder: str | os.PathLike | None = None) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """One of the models that the book trained, for `from_weights`, or of those that `save` wrote to a folder.

    Raises ValueError as `model_config`.
    """
    config = model_config(positions)
    arrays = load_file(Path(folder or _FOLDER) / f"{positions}.safetensors")
    return config, {name: array.astype(np.float32) for name, array in arrays.items()}


def save(folder: str | os.PathLike, positions: str, weights: dict[str, np.ndarray]) -> None:
    """Write the weights of a trained model in float16 to a file that `load` reads."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(array, np.float16) for name, array in weights.items()}
    save_file(arrays, Path(folder) / f"{positions}.safetensors")


def _check_fit(room, needed, n_facts):
    check_count("n_facts", n_facts)
    if n_facts > N_KEYS:
        raise ValueError(f"n_facts must be at most the {N_KEYS} keys, got {n_facts}")
    if room < needed:
        raise ValueError(f"{n_facts} facts need {needed} tokens, got {room}")


def _noise(rng, rows, length):
    return rng.integers(N_KEYS + N_VALUES, VOCABULARY, (rows, length))


def _facts(rng, rows, n_facts):
    """Keys that differ within a row, and any values: (B, n, 2)."""
    keys = rng.permuted(np.tile(np.arange(N_KEYS), (rows, 1)), axis=1)[:, :n_facts]
    return np.stack([keys, rng.integers(N_KEYS, N_KEYS + N_VALUES, keys.shape)], axis=2)


def _places(rng, rows, n, length):
    """The first places of n pairs that do not overlap in `length` tokens, in order: (B, n)."""
    free = np.tile(np.arange(length - n), (rows, 1))  # each pair counts as one place here
    return np.sort(rng.permuted(free, axis=1)[:, :n], axis=1) + np.arange(n)


def _places_beside(rng, rows, n, length, at):
    """As `_places`, of pairs that leave the tokens `at` and `at + 1` free: rows that would tear a pair are redrawn."""
    starts = _places(rng, rows, n, length - 2)
    while (torn := (starts == at - 1).any(axis=1)).any():
        starts[torn] = _places(rng, torn.sum(), n, length - 2)
    return starts + np.where(starts >= at, 2, 0)
