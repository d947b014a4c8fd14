"""How the next token is drawn: the settings of a request."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from tfguide.checks.values import check_count, make_plain


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn, by these steps in this order; the defaults do nothing.

    repetition_penalty: divides a positive logit of a token that is already in the text and multiplies a negative one
    (Keskar et al. 2019). temperature: divides the logits; 0 takes the most likely token. top_k: keeps the k most likely
    tokens, and all that are as likely as the k-th, as in Hugging Face: with 1, equal logits are drawn from, where
    temperature 0 takes the lowest token. top_p: keeps the smallest set of most likely tokens whose probabilities sum to
    p or more (Holtzman et al. 2020). min_p: keeps the tokens at least min_p times as likely as the most likely (Nguyen
    et al. 2024). seed: the same seed draws the same tokens from the same logits, in either framework; each row of a
    batch has its own draws.

    Raises TypeError for a value that is not a number, ValueError for one out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int = 0

    def __post_init__(self):
        make_plain(self)
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, numbers.Real) or isinstance(value, bool)):
                raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}")
        if self.top_k is not None:
            check_count("top_k", self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must lie in [0, 1], got {self.min_p}")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0 and finite, got {self.repetition_penalty}")
        check_count("seed", self.seed, least=0)


GREEDY = Sampling(temperature=0.0)
