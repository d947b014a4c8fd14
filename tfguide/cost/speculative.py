"""The speed-up of speculative decoding if drafted tokens are accepted independently with the same probability."""

from __future__ import annotations

from tfguide.checks.values import check_count, check_number


def speculative_tokens(acceptance: float, draft_length: int) -> float:
    """The tokens that one pass of the target yields on average: (1 - a^(g + 1)) / (1 - a).

    acceptance: a, in [0, 1]; draft_length: g, tokens drafted for each pass. Source: Leviathan et al. 2023, equation 1.
    Raises ValueError out of range.

    >>> round(speculative_tokens(0.75, 7), 3)
    3.6
    """
    check_number("acceptance", acceptance)
    draft_length = check_count("draft_length", draft_length, least=0)
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance must be in [0, 1], got {acceptance}")
    return float(sum(acceptance**i for i in range(draft_length + 1)))


def speculative_speedup(acceptance: float, draft_length: int, draft_cost: float, check_cost: float = 1.0) -> float:
    """The speed-up over plain decoding: `speculative_tokens` / (g c + r).

    draft_cost: c, the time of the draft's step over the target's; check_cost: r, the time in which the target checks
    g + 1 tokens over that of one step, 1 where reading the weights is all that takes time. Not counted: neighbouring
    acceptances are not independent; published speed-ups are up to a quarter lower or half higher than those of r = 1.
    Source: Leviathan et al. 2023, theorem 3.8, which has r = 1. Raises ValueError out of range.
    """
    check_number("draft_cost", draft_cost)
    if draft_cost < 0:
        raise ValueError(f"draft_cost must be at least 0, got {draft_cost}")
    check_number("check_cost", check_cost, above=0.0)
    draft_length = check_count("draft_length", draft_length, least=0)
    return speculative_tokens(acceptance, draft_length) / (draft_length * draft_cost + check_cost)


def best_draft_length(acceptance: float, draft_cost: float, more_cost: float = 0.0, most: int = 64) -> int:
    """The draft length, from 0 to `most`, with the largest `speculative_speedup`; the shortest of equals.

    more_cost: what each further token adds to the check, as a part of the target's step: r = 1 + g times that. 0 says
    that speculation does not pay. Raises ValueError out of range.

    >>> best_draft_length(0.8, 0.1), best_draft_length(0.8, 0.1, more_cost=0.3), best_draft_length(0.3, 0.5)
    (6, 2, 0)
    """
    check_number("more_cost", more_cost)
    if more_cost < 0:
        raise ValueError(f"more_cost must be at least 0, got {more_cost}")
    lengths = range(check_count("most", most) + 1)
    return max(lengths, key=lambda g: speculative_speedup(acceptance, g, draft_cost, 1 + g * more_cost))
