"""Exercises of section 6.13: the share of the machine's limit, what one faster part is worth, and a fair comparison."""

from __future__ import annotations

import math

import numpy as np

from tfguide.exercises.entry import Exercise, Mistake

PAGE = "06m"
_TOOLS = {
    "numpy": "np.median, np.log, np.exp",
    "torch": "torch.median, torch.log, torch.exp",
    "tensorflow": "tf.sort, tf.math.log, tf.exp",
}


def bandwidth_share(weight_bytes, cache_bytes, context, milliseconds, gigabytes):
    """The share of the memory's speed that a step reaches, by the bytes that it must read."""
    return (weight_bytes + cache_bytes * context) / (1e-3 * milliseconds) / (1e9 * gigabytes)


def speedup(seconds, factors):
    """How many times as fast the whole is when each part is so many times as fast (Amdahl)."""
    return sum(seconds) / sum(part / factor for part, factor in zip(seconds, factors, strict=True))


def fair_ratio(theirs, ours):
    """The geometric mean over models of the median over rounds of the ratios of each round."""
    return np.exp(np.log(np.median(theirs / ours, axis=1)).mean())


def _share_of_seconds(seconds, factors):
    total = sum(seconds)
    return sum(part / total * factor for part, factor in zip(seconds, factors, strict=True))


def _rounds(rng):
    """Seconds (M, R) of two programs: the machine changes its speed between rounds, for both alike."""
    for models, rounds in ((1, 3), (2, 5), (3, 7)):
        size = np.array([1.0, 11.0, 130.0])[:models, None]
        drift = np.exp(rng.normal(size=(models, rounds)))
        noise = np.exp(0.2 * rng.normal(size=(2, models, rounds)))
        factor = np.array([1.5, 3.0, 0.5])[:models, None]
        yield tuple(np.float32(size * drift * f * n).astype(np.float64) for f, n in ((factor, noise[0]), (1, noise[1])))


EXERCISES = (
    Exercise(
        id="bandwidth-share",
        page=PAGE,
        grade=1,
        title="The share of the limit",
        signature="bandwidth_share(weight_bytes, cache_bytes, context, milliseconds, gigabytes)",
        statement="A step reads all weights, `weight_bytes`, and the cache, `cache_bytes` for each of `context` "
        "positions. It took `milliseconds`; the memory reads `gigabytes` (1e9 bytes) a second. Return the share of "
        "the memory's speed that the step reaches, 1.0 if it reads as fast as the memory can.",
        hints=(
            "How many bytes does the step read, and how many seconds does it take?",
            "Bytes over seconds is the speed of the step; bring both speeds to the same unit.",
            "(weights + cache * context) / (1e-3 * ms) / (1e9 * GB/s).",
        ),
        inputs=lambda rng: [(135e6, 23040, 128, 6.5, 25.0), (538e6, 46080, 2000, 30.0, 34.0), (7e6, 11, 3, 1.0, 13.0)],
        oracle=bandwidth_share,
        mistakes=(
            Mistake(
                "The cache is missing: a step reads it whole, too.",
                lambda w, c, n, ms, gb: bandwidth_share(w, 0, n, ms, gb),
            ),
            Mistake(
                "The cache of one position is counted: a step reads that of every position.",
                lambda w, c, n, ms, gb: bandwidth_share(w, c, 1, ms, gb),
            ),
            Mistake(
                "This is how many times as long as its bytes the step takes: the share is one over it.",
                lambda *given: 1 / bandwidth_share(*given),
            ),
            Mistake("This is the share in percent.", lambda *given: 100 * bandwidth_share(*given)),
        ),
        tensors=False,
    ),
    Exercise(
        id="amdahl",
        page=PAGE,
        grade=2,
        title="One part made faster",
        signature="speedup(seconds, factors)",
        statement="A step consists of parts that follow each other. `seconds` are their times, a list; `factors` say "
        "how many times as fast each one is made, 1.0 for a part that stays as it is. Return how many times as fast "
        "the whole step becomes.",
        hints=(
            "How long does the step take before, and how long afterwards?",
            "A part that is made f times as fast takes its seconds divided by f.",
            "sum(t) / sum(t / f).",
        ),
        inputs=lambda rng: [([6.0, 3.0, 1.0], [4.0, 1.0, 1.0]), ([1.0, 8.0, 2.0, 3.0], [10.0, 2.0, 1.0, 0.5])],
        oracle=speedup,
        mistakes=(
            Mistake(
                "The factors are averaged by the parts' shares of the time: a part of half the time that vanishes "
                "makes the whole twice as fast, no more.",
                _share_of_seconds,
            ),
            Mistake("The factors are multiplied: each holds for its own part only.", lambda s, f: math.prod(f)),
            Mistake("This is the time that is left, as a share.", lambda s, f: 1 / speedup(s, f)),
            Mistake("These are the seconds of the new step.", lambda s, f: sum(s) / speedup(s, f)),
        ),
        tensors=False,
    ),
    Exercise(
        id="fair-ratio",
        page=PAGE,
        grade=3,
        title="A fair comparison",
        signature="fair_ratio(theirs, ours)",
        statement="Two programs took turns. `theirs` and `ours` (M, R) are the seconds of M models in R rounds, R odd; "
        "the machine was not equally fast in all rounds. Return one number, how many times as fast ours is: for each "
        "model the median of the ratios of each round, and of the models the geometric mean.",
        hints=(
            "What the machine did in a round, it did to both: divide first, then take the median.",
            "Twice as fast with one model and half as fast with another should be 1: average logarithms.",
            "exp(mean(log(median(theirs / ours, over rounds)))). TensorFlow: sort, and take the middle.",
        ),
        inputs=lambda rng: list(_rounds(rng)),
        oracle=fair_ratio,
        mistakes=(
            Mistake(
                "These are ratios of medians: the two medians come from different rounds, and the machine's changes "
                "do not cancel.",
                lambda theirs, ours: np.exp(np.log(np.median(theirs, axis=1) / np.median(ours, axis=1)).mean()),
            ),
            Mistake(
                "The mean over models is arithmetic here: turned around, it would not give one over it.",
                lambda theirs, ours: np.median(theirs / ours, axis=1).mean(),
            ),
            Mistake("It is turned around: theirs over ours.", lambda theirs, ours: fair_ratio(ours, theirs)),
            Mistake(
                "These are all seconds of the one over all of the other: the largest model decides.",
                lambda theirs, ours: theirs.sum() / ours.sum(),
            ),
        ),
        tools=_TOOLS,
    ),
)
