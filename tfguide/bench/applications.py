"""What the techniques of chapter 6 do to a task of chapter 7: the score, the time and the bytes of each variant.

Every task measures the same variants and writes the same rows, so that one table and one figure hold all of them. The
variants take turns, since the machine's speed drifts.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfguide.bench.timing import median_ratio, take_turns
from tfguide.checks.values import check_choice, check_count

# In the order of the tables. What a task has no use for is left out of its rows, and its page says why.
VARIANTS = ("float32", "bfloat16", "int8", "int4", "pruned", "speculative")


@dataclass(frozen=True)
class Variant:
    """A model as one technique leaves it.

    answer: from the inputs of a task to its answers, in the same order; n_bytes: of the weights that are read; about:
    what was done, in a few words, such as "8 bits for each output" or "half of each matrix, by magnitude".
    """

    name: str
    answer: Callable[[Sequence[Any]], Sequence[Any]]
    n_bytes: int
    about: str = ""


def measure_variants(
    task: str,
    framework: str,
    variants: Sequence[Variant],
    inputs: Sequence[Any],
    score: Callable[[Sequence[Any]], Mapping[str, float]],
    timed: int = 16,
    repeats: int = 5,
) -> list[dict[str, Any]]:
    """A row for each variant: its scores over all inputs, and its seconds for one of the first `timed` inputs.

    score: from the answers to {metric: value}; the first metric is the one that the figure shows. A row has "task",
    "framework", "variant", "about", "scores", "examples", "seconds" (the median for one example), "ratio" (how many
    times faster than the first variant, the median over the rounds), and "n_bytes". Raises ValueError for a variant
    that is none of VARIANTS, and for counts below 1.
    """
    for variant in variants:
        check_choice("variant", variant.name, VARIANTS)
    timed, repeats = min(check_count("timed", timed), len(inputs)), check_count("repeats", repeats)
    scores = [dict(score(variant.answer(inputs))) for variant in variants]
    some = inputs[:timed]
    calls = {variant.name: lambda variant=variant: variant.answer(some) for variant in variants}
    seconds = take_turns(calls, repeats, warmup=1)
    return [
        {
            "task": task, "framework": framework, "variant": variant.name, "about": variant.about, "scores": own,
            "examples": len(inputs), "seconds": statistics.median(seconds[variant.name]) / timed,
            "ratio": median_ratio(seconds, variants[0].name, variant.name),
            "n_bytes": variant.n_bytes,
        }
        for variant, own in zip(variants, scores, strict=True)
    ]  # fmt: skip
