"""Exercises of section 6.8: how a token is chosen, and beams."""

from __future__ import annotations

import numpy as np

from tfguide.exercises.concepts import softmax
from tfguide.exercises.entry import Exercise, Mistake, numbers
from tfguide.generation import BeamSearch, Sampling, probabilities


def top_k(logits, k):
    """The distribution of the k likeliest tokens, (V,)."""
    return probabilities(logits[None], Sampling(top_k=k))[0]


def top_p(logits, p):
    """The distribution of the fewest likeliest tokens that hold a share of p or more, (V,)."""
    return probabilities(logits[None], Sampling(top_p=p))[0]


def beam_step(totals, log_probabilities, n_beams):
    """The parents, the tokens and the totals of the best continuations of all beams, best first."""
    flat = (totals[:, None] + log_probabilities).ravel()
    best = np.argsort(-flat)[:n_beams]
    V = log_probabilities.shape[1]
    return (best // V).tolist(), (best % V).tolist(), flat[best]


def _solve_beams(totals, log_probabilities, n_beams):
    """A search whose first step finds the beams with these totals; they must be in falling order, best first."""
    search = BeamSearch(n_beams, 3, frozenset(), 1.0)
    search.step(totals[None])
    parents, tokens = search.step(log_probabilities)
    return parents, tokens, np.array([total for _, total in search.running])


def _keep(distribution, kept):
    return np.where(kept, distribution, 0) / distribution[kept].sum()


def _ranks(logits):
    return np.argsort(np.argsort(-logits, kind="stable"), kind="stable")


def _before(logits):
    """The sum of the probabilities of the likelier tokens, for each token."""
    p = softmax(logits)
    order = np.argsort(-p, kind="stable")
    result = np.empty_like(p)
    result[order] = np.cumsum(p[order]) - p[order]
    return result


def _without_crossing(logits, p):
    distribution = softmax(logits)
    kept = _before(logits) + distribution <= p
    return _keep(distribution, kept | (_ranks(logits) == 0))


def _each_alone(totals, log_probabilities, n_beams):
    """Every beam goes on with its own best token."""
    tokens = log_probabilities.argmax(axis=1)
    return list(range(n_beams)), tokens.tolist(), totals + log_probabilities.max(axis=1)


def _without_totals(totals, log_probabilities, n_beams):
    return beam_step(np.zeros_like(totals), log_probabilities, n_beams)


def _multiplied(totals, log_probabilities, n_beams):
    flat = (totals[:, None] * log_probabilities).ravel()
    best, V = np.argsort(-flat)[:n_beams], log_probabilities.shape[1]
    return (best // V).tolist(), (best % V).tolist(), flat[best]


def _distributions(rng, n, V):
    return softmax(numbers(rng, n, V) * 2)


EXERCISES = (
    Exercise(
        id="top-k",
        page="06h",
        grade=1,
        title="The k likeliest tokens",
        signature="top_k(logits, k)",
        statement="Return the distribution (V,) from which top-k sampling draws: softmax of the logits (V,), an "
        "array of NumPy, over the k likeliest tokens, and 0 for all others. It sums to 1.",
        hints=(
            "Which logit is the smallest that stays?",
            "Set the others to minus infinity before softmax: then the rest sums to 1 by itself.",
            "least = np.sort(logits)[-k]; softmax of np.where(logits >= least, logits, -np.inf).",
        ),
        inputs=lambda rng: [(numbers(rng, 7) * 2, 3), (numbers(rng, 11) * 3, 1), (numbers(rng, 5), 5)],
        oracle=top_k,
        mistakes=(
            Mistake(
                "What is left does not sum to 1: divide by its sum.",
                lambda logits, k: np.where(_ranks(logits) < k, softmax(logits), 0),
            ),
            Mistake(
                "These are the k unlikeliest tokens.",
                lambda logits, k: _keep(softmax(logits), _ranks(logits) >= len(logits) - k),
            ),
            Mistake("One token too many stays.", lambda logits, k: _keep(softmax(logits), _ranks(logits) <= k)),
            Mistake(
                "Logits of 0 are not probabilities of 0: exp(0) is 1. Hide with minus infinity.",
                lambda logits, k: softmax(np.where(_ranks(logits) < k, logits, 0)),
            ),
        ),
        solution="tfguide.generation:probabilities",
        solve=top_k,
        tensors=False,
    ),
    Exercise(
        id="top-p",
        page="06h",
        grade=2,
        title="The nucleus",
        signature="top_p(logits, p)",
        statement="Return the distribution (V,) from which top-p sampling draws: of the softmax of the logits (V,), "
        "an array of NumPy, the fewest likeliest tokens that hold p or more together, and 0 for all others. It sums "
        "to 1.",
        hints=(
            "Order the probabilities, largest first, and sum them up.",
            "The token with which the sum reaches p belongs to the nucleus. So look at the sum before each token.",
            "Keep a token if the sum over the likelier ones is below p; then divide by what is left.",
        ),
        inputs=lambda rng: [(numbers(rng, 7) * 2, 0.8), (numbers(rng, 11), 0.5), (numbers(rng, 5) * 5, 0.1)],
        oracle=top_p,
        mistakes=(
            Mistake(
                "The token that reaches p is missing: without it the nucleus holds less than p.", _without_crossing
            ),
            Mistake(
                "What is left does not sum to 1: divide by its sum.",
                lambda logits, p: np.where(_before(logits) < p, softmax(logits), 0),
            ),
            Mistake(
                "Tokens are kept whose own probability is p or more: it is the running sum that counts.",
                lambda logits, p: _keep(softmax(logits), (softmax(logits) >= p) | (_ranks(logits) == 0)),
            ),
            Mistake(
                "The sum runs from the unlikeliest token upwards: begin with the likeliest.",
                lambda logits, p: _keep(softmax(logits), _before(-logits) < p),
            ),
        ),
        solution="tfguide.generation:probabilities",
        solve=top_p,
        tensors=False,
    ),
    Exercise(
        id="beam-step",
        page="06h",
        grade=3,
        title="A step of beam search",
        signature="beam_step(totals, log_probabilities, n_beams)",
        statement="The running beams have the `totals` (n,), sums of log probabilities; the next tokens of each have "
        "`log_probabilities` (n, V). Both are arrays of NumPy. Return three things for the `n_beams` best "
        "continuations, best first: the list of the beams that they continue, the list of their tokens, and the "
        "array of their totals.",
        hints=(
            "All continuations of all beams compete with each other: one beam may have two successors, and another "
            "none.",
            "Add the totals as a column, flatten, and order.",
            "A place in the flat array is beam * V + token: // and % take it apart.",
        ),
        inputs=lambda rng: [
            (np.sort(numbers(rng, n))[::-1].copy() - 2, np.log(_distributions(rng, n, V)), n)
            for n, V in ((3, 5), (2, 7))
        ],
        oracle=beam_step,
        mistakes=(
            Mistake("Each beam goes on with its own best token: all continuations compete.", _each_alone),
            Mistake("The totals so far are left out: a continuation is judged by its whole text.", _without_totals),
            Mistake("Log probabilities are multiplied: they are added.", _multiplied),
            Mistake(
                "Beams and tokens are exchanged: a place is beam * V + token.",
                lambda *arguments: (lambda found: (found[1], found[0], found[2]))(beam_step(*arguments)),
            ),
        ),
        solution="tfguide.generation:BeamSearch",
        solve=_solve_beams,
        tensors=False,
    ),
)
