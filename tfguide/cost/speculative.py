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


def speculative_speedup(acceptance: float, draft_length: int, draft_cost: float) -> float:
    """The speed-up over plain decoding: `speculative_tokens` / (g c + 1).

    draft_cost: c, the time of the draft's step over the target's. Not counted: checking g + 1 tokens may take longer
    than one step, and neighbouring acceptances are not independent; measured speed-ups are up to a quarter lower or
    half higher. Source: Leviathan et al. 2023, theorem 3.8. Raises ValueError out of range.
    """
    check_number("draft_cost", draft_cost)
    if draft_cost < 0:
        raise ValueError(f"draft_cost must be at least 0, got {draft_cost}")
    draft_length = check_count("draft_length", draft_length, least=0)
    return speculative_tokens(acceptance, draft_length) / (draft_length * draft_cost + 1)
