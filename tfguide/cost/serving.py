"""How many requests a second a server can take: Little's law and the time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count, check_number
from tfguide.config import ModelConfig
from tfguide.cost.chips import Chip
from tfguide.cost.step import step


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The seconds of a step of an engine: `step_s`, for each token `token_s`, for each cached position `position_s`.

    step_s: reading the weights and starting the operations; token_s: the arithmetic of a token; position_s: reading
    keys and values. The three are added: nothing overlaps. Raises ValueError for a number below 0.
    """

    step_s: float
    token_s: float
    position_s: float = 0.0

    def __post_init__(self):
        for name in ("step_s", "token_s", "position_s"):
            check_number(name, getattr(self, name))
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def __call__(self, n_tokens: float, n_positions: float = 0.0) -> float:
        """The seconds of a step that computes so many tokens and reads so many positions of the cache."""
        return self.step_s + self.token_s * n_tokens + self.position_s * n_positions


def step_cost(config: ModelConfig, chip: Chip | str, weights: str = "bfloat16", kv: str = "bfloat16") -> StepCost:
    """The cost of a step by a chip's data sheet, without the operations of attention. Raises as `step`."""
    one = step(config, chip, 1, 1, 1, weights=weights, kv=kv)  # of one token, which is the only position
    return StepCost(step_s=one.weights_s, token_s=one.compute_s or 0.0, position_s=one.kv_s)


def fit_step_cost(tokens: Sequence[float], positions: Sequence[float], seconds: Sequence[float]) -> StepCost:
    """The cost that comes nearest to measured steps, by the least relative errors squared.

    tokens, positions, seconds: of each step, as many of each. Raises ValueError for fewer than three steps.
    """
    if not 3 <= len(seconds) == len(tokens) == len(positions):
        raise ValueError(
            f"expected as many tokens and positions as seconds, of three steps or more, got "
            f"{len(tokens)}, {len(positions)} and {len(seconds)}"
        )
    y = np.asarray(seconds, float)
    columns = np.stack([np.ones(len(y)), tokens, positions], axis=1) / y[:, None]
    chosen = [0, 1, 2]
    while True:  # a cost is not below 0: leave out what would be
        found, *_ = np.linalg.lstsq(columns[:, chosen], np.ones(len(y)), rcond=None)
        if (found >= 0).all():
            break
        del chosen[int(found.argmin())]
    values = np.zeros(3)
    values[chosen] = found
    return StepCost(step_s=float(values[0]), token_s=float(values[1]), position_s=float(values[2]))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What requests ask for on average.

    prompt, answer: tokens. held: positions of the cache that a request has, added up over its steps: each step reads
    them.
    """

    prompt: float
    answer: float
    held: float

    @classmethod
    def of(cls, prompts: Sequence[int], answers: Sequence[int]) -> Traffic:
        """The averages of requests with these lengths. Raises ValueError where they are not as many, or none."""
        p, a = np.asarray(prompts, float), np.asarray(answers, float)
        if not len(p) or p.shape != a.shape:
            raise ValueError(f"expected as many prompts as answers, got {len(p)} and {len(a)}")
        return cls(prompt=float(p.mean()), answer=float(a.mean()), held=float((a * p + a * (a - 1) / 2).mean()))

    def work_s(self, cost: StepCost) -> float:
        """The seconds that a request adds to steps, whatever else is in them: for its tokens and what they read."""
        return cost.token_s * (self.prompt + self.answer - 1) + cost.position_s * self.held


@dataclass(frozen=True, kw_only=True)
class Steady:
    """A server in balance. tpot: seconds of a step; rows: texts at once; tokens: of a step; positions: held at once."""

    tpot: float
    rows: float
    tokens: float
    positions: float


def steady(cost: StepCost, traffic: Traffic, rate: float) -> Steady | None:
    """A server to which `rate` requests a second come, evenly; None: it cannot keep up.

    The work of a second's requests is done in a second, and what is left of it is divided among the steps. Little's law
    gives what is there at once: arrivals a second, times the seconds that each stays. A request stays for a step for
    each token of its answer.
    """
    check_number("rate", rate, above=0)
    busy = rate * traffic.work_s(cost)
    if busy >= 1:
        return None
    tpot = cost.step_s / (1 - busy)
    return Steady(tpot=tpot, **{name: rate * each * tpot for name, each in _of_a_request(traffic).items()})


def capacity(
    cost: StepCost, traffic: Traffic, *, tpot: float, rows: int, tokens: int, positions: int | None = None
) -> dict[str, float]:
    """The most requests a second by which each limit is kept, by its name: the least of them is what a server takes.

    tpot: seconds of a step; rows: texts at once; tokens: of a step; positions: of the cache; None: enough. Not counted:
    that requests come unevenly.
    """
    check_number("tpot", tpot, above=0)
    limits = {"rows": rows, "tokens": tokens} | ({} if positions is None else {"positions": positions})
    work, each = traffic.work_s(cost), _of_a_request(traffic)
    found = {"tpot": max(0.0, 1 - cost.step_s / tpot) / work}
    for name, limit in limits.items():
        check_count(name, limit)
        found[name] = limit / (each[name] * cost.step_s + limit * work)  # rate * each * tpot = limit
    return found


def _of_a_request(traffic):
    """What a request adds up over its steps."""
    return {"rows": traffic.answer, "tokens": traffic.prompt + traffic.answer - 1, "positions": traffic.held}
