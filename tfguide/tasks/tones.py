"""Audio: generated sequences of digits in tones, their spectrogram, and its frames as what a Transformer reads.

Nobody speaks here: a digit is two tones at once, one of its row and one of its column on the keys of a telephone
(ITU-T Q.23). What makes it a task: each sequence has a voice of its own, which moves all tones together by up to
VOICE; tempo, loudness and pauses differ; and there is noise. A voice may move the tones of 1 to where another has those
of 5, so that one frame alone does not tell which it is: the rest of the sequence does.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.parts import LabelHead
from tfguide.tasks.own import check_answers
from tfguide.training import NO_LABEL, Batch, Recipe

RATE = 8000  # samples for each second
LOW, HIGH = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)  # Hz: of the rows and of the columns of the keys
KEYS = "123456789*0#"
SILENCE = 10  # the label where nothing sounds
VOICE = 0.09  # at most so much higher or lower are the tones of a sequence

WINDOW, HOP = 256, 128  # samples of a frame, and from one to the next: 32 ms and 16 ms
BANDS = 64  # of the frequencies of a frame the lowest, up to 2 kHz
FRAMES = 2  # in a patch
PATCH_SECONDS = FRAMES * HOP / RATE

RECIPE = Recipe(steps=400, rows=32, length=64, learning_rate=4e-3, warmup=30)  # of the book's model


@dataclass(frozen=True)
class Recording:
    """A waveform, float32 (n,) from -1 to 1 at RATE, its digits, and what sounds in each sample, a digit or SILENCE."""

    samples: np.ndarray
    digits: tuple[int, ...]
    sounds: np.ndarray


def tones_of(digit: int) -> tuple[float, float]:
    """The two frequencies of a digit in Hz, without a voice.

    >>> tones_of(1), tones_of(0)
    ((697.0, 1209.0), (941.0, 1336.0))
    """
    row, column = divmod(KEYS.index(str(digit)), len(HIGH))
    return LOW[row], HIGH[column]


def record(digits: Sequence[int], draws: np.random.Generator, voice: float | None = None, noise: float | None = None):
    """A `Recording` of digits, with a random tempo, loudness and pauses.

    voice: how much higher all tones are, such as 0.03; default: random, up to VOICE. noise: the standard deviation of
    what is added to each sample; default: random, up to 0.3, where a tone has an amplitude near 0.4.
    """
    voice = draws.uniform(-VOICE, VOICE) if voice is None else voice
    noise = draws.uniform(0.02, 0.3) if noise is None else noise
    tempo = draws.uniform(0.8, 1.4)
    parts, sounds = [np.zeros(_samples(draws.uniform(0.04, 0.1)))], []
    sounds.append(np.full(len(parts[0]), SILENCE))
    for digit in digits:
        tone = _tone(digit, 1 + voice, _samples(tempo * draws.uniform(0.07, 0.15)), draws)
        pause = np.zeros(_samples(tempo * draws.uniform(0.08, 0.16)))
        parts += [tone, pause]
        sounds += [np.full(len(tone), digit), np.full(len(pause), SILENCE)]
    samples = np.concatenate(parts)
    samples = np.clip(samples + noise * draws.standard_normal(len(samples)), -1, 1)
    return Recording(samples.astype(np.float32), tuple(int(d) for d in digits), np.concatenate(sounds))


def recordings(n: int, seed: int = 0, lengths: Sequence[int] = (3, 4, 5, 6, 7), **options: float) -> list[Recording]:
    """`n` recordings of random digits, always the same for a seed; lengths: how many digits one has.

    options: as in `record`.
    """
    draws = np.random.default_rng(seed)
    return [
        record(draws.integers(10, size=draws.choice(lengths)), draws, **options) for _ in range(check_count("n", n))
    ]


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """How loud each frequency is at each time: (frames, BANDS), the logarithm of the short-time Fourier transform.

    Frame f is the samples from f * HOP on, WINDOW of them, times a Hann window. Band k is at k * RATE / WINDOW Hz. The
    logarithm is of the magnitude plus 1, so that silence is 0. Raises ValueError where there is not one whole frame.
    """
    if samples.ndim != 1 or len(samples) < WINDOW:
        raise ValueError(f"samples must be one row of at least {WINDOW} numbers, got shape {samples.shape}")
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.log1p(np.abs(np.fft.rfft(frames * hann, axis=-1)))[:, :BANDS].astype(np.float32)


def patches(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """The patches of a recording (T, FRAMES * BANDS), and what sounds in the middle of each, int64 (T,)."""
    found = spectrogram(recording.samples)
    T = len(found) // FRAMES
    middle = (np.arange(T) * FRAMES + (FRAMES - 1) / 2) * HOP + WINDOW / 2
    return found[: T * FRAMES].reshape(T, -1), recording.sounds[middle.astype(int)].astype(np.int64)


def batch(some: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """The `patches` of several recordings as one batch, with zeros at the end of the shorter ones.

    "valid" is True where there are patches, and the labels are NO_LABEL elsewhere.
    """
    T = max(len(vectors) for vectors, _ in some)
    tokens = np.zeros((len(some), T, FRAMES * BANDS), np.float32)
    labels = np.full((len(some), T), NO_LABEL, np.int64)
    for i, (vectors, sounds) in enumerate(some):
        tokens[i, : len(vectors)], labels[i, : len(sounds)] = vectors, sounds
    return Batch({"tokens": tokens, "valid": labels > NO_LABEL}, labels)


def batches(learned: Sequence[Recording], rows: int, seed: int = 0) -> Callable[[int], Batch]:
    """The batch of each step, from 0: `rows` random recordings of those to learn from."""
    cut = [patches(one) for one in learned]

    def batch_at(step: int) -> Batch:
        return batch([cut[i] for i in np.random.default_rng([seed, step]).integers(len(cut), size=rows)])

    return batch_at


def model_config(**changes: object) -> ModelConfig:
    """The book's model of tones: an encoder of 2 layers that says for each patch which digit sounds, or SILENCE.

    changes: fields that differ.
    """
    fields = dict(
        kind="encoder", d_model=48, n_layers=2, n_heads=4, d_ff=96, d_input=FRAMES * BANDS, positions="rotary",
        labels=LabelHead(n_labels=SILENCE + 1, per="token"),
    )  # fmt: skip
    return ModelConfig(**(fields | changes))


def collapse(labels: Sequence[int]) -> tuple[int, ...]:
    """The sequence that labels of patches spell: equal neighbours are one, and SILENCE is left out.

    It is the rule by which CTC reads its labels, with its blank for silence. Source: Graves et al. 2006, section 3.1.

    >>> collapse([10, 3, 3, 3, 10, 3, 10, 10, 7, 7])
    (3, 3, 7)
    """
    labels = [int(label) for label in labels if label != NO_LABEL]
    return tuple(b for a, b in zip([SILENCE, *labels], labels, strict=False) if b not in (a, SILENCE))


def edits(given: Sequence[int], wanted: Sequence[int]) -> int:
    """The fewest insertions, deletions and replacements that make one sequence of the other: the edit distance.

    >>> edits((3, 1, 7), (3, 7, 7, 9))
    2
    """
    row = list(range(len(wanted) + 1))
    for i, one in enumerate(given, 1):
        last, row[0] = row[0], i  # what stood diagonally above, and the first column
        for j, other in enumerate(wanted, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def scores(given: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]]) -> dict[str, float]:
    """ "exact match": the share of whole sequences that are right; "error rate": edits for each digit that is wanted.

    The error rate is that of speech recognition, there of words. Raises ValueError for lists of unequal lengths.
    """
    check_answers(given, wanted)
    wrong = [edits(one, other) for one, other in zip(given, wanted, strict=True)]
    return {"exact match": wrong.count(0) / len(wrong), "error rate": sum(wrong) / sum(len(other) for other in wanted)}


def read_wave(path: str | os.PathLike) -> np.ndarray:
    """The samples of a WAV file of your own, float32 (n,): one channel of 16 bits at RATE.

    Raises ValueError for another format.
    """
    with wave.open(os.fspath(path)) as file:
        found = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
        if found != (1, 16, RATE):
            raise ValueError(
                f"expected 1 channel of 16 bits at {RATE} Hz, got {found[0]} of {found[1]} bits at {found[2]} Hz"
            )
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15


def _samples(seconds):
    return int(seconds * RATE)


def _tone(digit, voice, n, draws):
    """Both tones of a digit over n samples, which swell and fade for 8 ms."""
    at = np.arange(n) / RATE
    level = draws.uniform(0.3, 0.5, 2)
    phase = draws.uniform(0, 2 * np.pi, 2)
    edge = np.clip(np.minimum(at, at[::-1]) / 0.008, 0, 1)
    waves = [
        np.sin(2 * np.pi * voice * hertz * at + start) for hertz, start in zip(tones_of(digit), phase, strict=True)
    ]
    return edge * (level @ waves)
