"""Scalings of the rotary frequencies for texts longer than those of training, each a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tfguide.checks.values import check_choice, check_count, check_number, make_plain


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's scaling of the rotary frequencies for contexts longer than those of training.

    Wavelengths shorter than `original_max_positions / high_freq_factor` stay, those longer than
    `original_max_positions / low_freq_factor` are multiplied by `factor`, and those between are interpolated.
    Source: Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4, and Meta's reference code.

    Raises ValueError where a factor is not positive, or where `low_freq_factor >= high_freq_factor`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int
    kind: str = field(default="llama3", init=False)

    def __post_init__(self):
        make_plain(self)
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            check_number(name, getattr(self, name), above=0.0)
        check_count("original_max_positions", self.original_max_positions)
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                "low_freq_factor must be below high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """All rotary frequencies divided by one factor, so that a longer text has the angles of a shorter one.

    Source: Chen et al. 2023, "Extending Context Window of Large Language Models via Positional Interpolation".
    Raises ValueError where the factor is not positive.
    """

    factor: float
    kind: str = field(default="linear", init=False)

    def __post_init__(self):
        make_plain(self)
        check_number("factor", self.factor, above=0.0)


@dataclass(frozen=True, kw_only=True)
class DynamicScaling:
    """A base of the rotary frequencies that grows with the text, once it is longer than those of training.

    For a text of n > `original_max_positions` = m positions, the base is multiplied by
    `(factor n / m - factor + 1) ** (d / (d - 2))`: the slowest pair turns as much more slowly as the text is longer,
    the fastest as before. The frequencies depend on the length: see `tfguide.frequencies.scaled_by_length`.
    Source: Peng et al. 2023, "YaRN", section 3.3, and the code of transformers.
    Raises ValueError for a factor below 1.
    """

    factor: float
    original_max_positions: int
    kind: str = field(default="dynamic", init=False)

    def __post_init__(self):
        make_plain(self)
        check_number("factor", self.factor)
        if self.factor < 1.0:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        check_count("original_max_positions", self.original_max_positions)


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """YaRN: fast pairs keep their frequency, slow pairs are divided by the factor, and attention becomes sharper.

    A pair that turns more than `beta_fast` times within `original_max_positions` keeps its frequency, one that turns
    less than `beta_slow` times is divided by `factor`; the share of the factor grows from 0 to 1 along the pairs
    between them. truncate: whether those two limits are rounded to whole pairs.

    Cosines and sines are multiplied by `attention_factor`; default: `0.1 ln(factor) + 1`, or, with `mscale` and
    `mscale_all_dim`, the quotient of that with ln(factor) times the one and times the other. A `factor` of at most 1
    gives 1. Source: Peng et al. 2023, section 3.2 to 3.4; mscale: DeepSeek-AI 2024, "DeepSeek-V2".

    Raises ValueError where a number is not positive, or where `beta_slow > beta_fast`.
    """

    factor: float
    original_max_positions: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    kind: str = field(default="yarn", init=False)

    def __post_init__(self):
        make_plain(self)
        for name in ("factor", "beta_fast", "beta_slow"):
            check_number(name, getattr(self, name), above=0.0)
        for name in ("attention_factor", "mscale", "mscale_all_dim"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0.0)
        check_count("original_max_positions", self.original_max_positions)
        if self.beta_slow > self.beta_fast:
            raise ValueError(f"beta_slow must be at most beta_fast={self.beta_fast}, got {self.beta_slow}")
        if not isinstance(self.truncate, bool):
            raise TypeError(f"truncate must be a bool, got {self.truncate!r}")


@dataclass(frozen=True, kw_only=True)
class LongRopeScaling:
    """LongRoPE: each pair's frequency is divided by a number of its own, of two sets chosen by the length of the text.

    Texts of up to `original_max_positions` have `short_factors`, longer ones `long_factors`: see
    `tfguide.frequencies.scaled_by_length`. Cosines and sines are multiplied by `attention_factor`; default:
    `sqrt(1 + ln(factor) / ln(original_max_positions))`, or 1 for a `factor` of at most 1. factor: how many times longer
    the texts are than those of training; nothing else depends on it.
    Source: Ding et al. 2024, "LongRoPE", and the configuration of Phi-3.

    Raises ValueError where a number is not positive, or for factors of two lengths.
    """

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_max_positions: int
    factor: float = 1.0
    attention_factor: float | None = None
    kind: str = field(default="longrope", init=False)

    def __post_init__(self):
        make_plain(self)
        for name in ("short_factors", "long_factors"):
            factors = getattr(self, name)
            if not isinstance(factors, (tuple, list)) or not factors:
                raise TypeError(f"{name} must be a tuple of a number for each pair of features, got {factors!r}")
            for factor in factors:
                check_number(name, factor, above=0.0)
            object.__setattr__(self, name, tuple(float(factor) for factor in factors))
        if len(self.short_factors) != len(self.long_factors):
            raise ValueError(
                "short_factors and long_factors must have one length, "
                f"got {len(self.short_factors)} and {len(self.long_factors)}"
            )
        check_count("original_max_positions", self.original_max_positions, least=2)
        check_number("factor", self.factor, above=0.0)
        if self.attention_factor is not None:
            check_number("attention_factor", self.attention_factor, above=0.0)


Scaling = RopeScaling | LinearScaling | DynamicScaling | YarnScaling | LongRopeScaling
SCALINGS = (RopeScaling, LinearScaling, DynamicScaling, YarnScaling, LongRopeScaling)


def make_scaling(kind: str = RopeScaling.kind, **fields: Any) -> Scaling:
    """The scaling of a kind; default: Llama 3's, as in files of the time when there was no other.

    Raises TypeError and ValueError as the classes.
    """
    kinds = {scaling.kind: scaling for scaling in SCALINGS}
    check_choice("the kind of rope_scaling", kind, kinds)
    return kinds[kind](**fields)
