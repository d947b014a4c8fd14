"""Exercises of section 6.9: drafts, and when they are accepted."""

from __future__ import annotations

import numpy as np

from tfguide import cost
from tfguide.exercises.concepts import softmax
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.generation import accept, draw


def residual(target, draft):
    """What a token is drawn from when a drafted one is rejected, (V,): the positive part of p - q, normalised."""
    left = np.maximum(target - draft, 0)
    return left / left.sum()


def _accepting(is_accepted, replacement):
    """The loop of `accept` with another test of a token and another distribution behind a rejection."""

    def run(target, draft, drafted, uniforms):
        for i, token in enumerate(drafted):
            if not is_accepted(target[i, token], draft[i, token], uniforms[i]):
                return i, int(draw(replacement(target[i], draft[i])[None], uniforms[-1:])[0])
        return len(drafted), int(draw(target[len(drafted)][None], uniforms[-1:])[0])

    return run


def _usual(p, q, u):
    return u * q < p


def _no_bonus(target, draft, drafted, uniforms):
    n, token = accept(target, draft, drafted, uniforms)
    return (n, token) if n < len(drafted) else (n - 1, drafted[-1])


def _distributions(rng, n, V):
    return softmax(numbers(rng, n, V) * 2)


def _draft_cases(rng):
    for seed in (1, 5, 7, 11, 13, 17, 19, 23, 29):
        own = np.random.default_rng(seed)
        target, draft = _distributions(own, 4, 5), _distributions(own, 3, 5)
        yield target, draft, own.integers(0, 5, 3).tolist(), own.random(4)


EXERCISES = (
    Exercise(
        id="expected-tokens",
        page="06i",
        grade=1,
        title="Tokens for each pass",
        signature="expected_tokens(acceptance, draft_length)",
        statement="Each of `draft_length` drafted tokens is accepted with the probability `acceptance`, "
        "independently, until the first is rejected. Return how many tokens a pass of the target yields on average. "
        "It adds one token of its own, whether or not one was rejected.",
        hints=(
            "Token i of the draft is kept if it and all before it are accepted.",
            "The mean is 1 for the target's own token, plus a for the first of the draft, plus a * a for the second "
            "...",
            "sum of acceptance ** i for i from 0 to draft_length.",
        ),
        inputs=lambda rng: [(0.75, 7), (0.5, 3), (1.0, 5), (0.0, 2)],
        oracle=cost.speculative_tokens,
        mistakes=(
            Mistake(
                "The target's own token is missing: a pass yields at least one.",
                lambda a, g: cost.speculative_tokens(a, g) - 1,
            ),
            Mistake(
                "The rejection of one token does not end the draft here: those behind it are lost.",
                lambda a, g: 1 + a * g,
            ),
            Mistake("The last drafted token is missing.", lambda a, g: cost.speculative_tokens(a, g - 1)),
        ),
        solution="tfguide.cost:speculative_tokens",
        tensors=False,
    ),
    Exercise(
        id="residual",
        page="06i",
        grade=2,
        title="Behind a rejection",
        signature="residual(target, draft)",
        statement="Return the distribution (V,) from which a token is drawn where a drafted one was rejected, so "
        "that the result is distributed as the target alone would have it. target and draft: distributions (V,), "
        "arrays of NumPy that are not equal.",
        hints=(
            "Tokens that the draft proposes too often are never missing.",
            "What is missing of a token is p - q where that is positive.",
            "np.maximum(target - draft, 0), divided by its sum.",
        ),
        inputs=lambda rng: [tuple(_distributions(rng, 2, V)) for V in (5, 7)],
        oracle=residual,
        mistakes=(
            Mistake("This is the target: what the draft already yields would come twice.", lambda p, q: p),
            Mistake("This does not sum to 1: divide by the sum.", lambda p, q: np.maximum(p - q, 0)),
            Mistake("The signs are exchanged: what is missing is p - q, not q - p.", lambda p, q: residual(q, p)),
            Mistake(
                "Negative differences count here: a probability is 0 at least.",
                lambda p, q: np.abs(p - q) / np.abs(p - q).sum(),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="accept-draft",
        page="06i",
        grade=3,
        title="Accept or reject",
        signature="accept(target, draft, drafted, uniforms)",
        statement="Return two integers: how many drafted tokens are accepted, and the token that follows them. target "
        "(n + 1, V) are the target's distributions at the drafted places and behind the last; draft (n, V) are those "
        "that the n tokens of the list `drafted` were drawn from; uniforms (n + 1,) are numbers in [0, 1).\n\n"
        "Token i is accepted if uniforms[i] * q < p, with its probabilities p in target[i] and q in draft[i]. Behind "
        "the first rejection the token is drawn from max(0, target[i] - draft[i]), normalised; where all are "
        "accepted, from target[n]. To draw from a distribution is to take the first token at which the cumulative "
        "sum is larger than uniforms[n].",
        hints=(
            "A loop over the drafted tokens that ends at the first rejection.",
            "Both draws take the last of the uniform numbers; the one behind a rejection takes what the draft left "
            "over.",
            "np.argmax(np.cumsum(d) > uniforms[-1]), with d = np.maximum(target[i] - draft[i], 0) over its sum.",
        ),
        inputs=lambda rng: list(_draft_cases(rng)),
        oracle=accept,
        mistakes=(
            Mistake(
                "Behind a rejection the token is drawn from the target: that favours what the draft likes.",
                _accepting(_usual, lambda p, q: p),
            ),
            Mistake(
                "A token is rejected wherever the target finds it less likely than the draft: it has a chance of p / "
                "q.",
                _accepting(lambda p, q, u: p >= q, residual),
            ),
            Mistake(
                "The fraction is turned round: a token is accepted with the probability p / q.",
                _accepting(lambda p, q, u: u * p < q, residual),
            ),
            Mistake(
                "A token is accepted by the target's probability alone: divide by that of the draft.",
                _accepting(lambda p, q, u: u < p, residual),
            ),
            Mistake(
                "Where all are accepted, the target's own token comes as well: the pass has computed it.", _no_bonus
            ),
        ),
        solution="tfguide.generation:accept",
        tensors=False,
    ),
)
