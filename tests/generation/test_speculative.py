"""Speculative decoding draws from the target's distribution: proved by enumeration."""

import itertools

import numpy as np
import pytest

from tfguide import PromptLookup, Sampling
from tfguide.generation import SpeculativeResult, accept, verdicts
from tfguide.generation.choose import draw, probabilities
from tfguide.generation.quick import chance_quickly
from tfguide.generation.verdicts import Certain, Place, stands, verify


def distributions(stream, n, size):
    raw = stream.random((n, size)) ** 3
    raw[stream.random((n, size)) < 0.25] = 0
    raw[:, 0] += 0.01
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_token_is_distributed_as_the_target(seed):
    """Every draft, every decision, every replacement, each with its probability: they add up to the target."""
    stream = np.random.default_rng(seed)
    V = 4
    p, q = distributions(stream, 3, V), distributions(stream, 2, V)
    total = np.zeros(V)
    for drafted in itertools.product(range(V), repeat=2):
        chance = q[0, drafted[0]] * q[1, drafted[1]]
        if chance == 0:
            continue
        stands = min(1.0, p[0, drafted[0]] / q[0, drafted[0]])
        total[drafted[0]] += chance * stands
        if stands < 1:  # the code's own replacement, over a fine grid of random numbers in place of all of them
            grid = (np.arange(2000) + 0.5) / 2000
            rejected = [accept(p, q, drafted, [stands + (1 - stands) / 2, 0.5, u]) for u in grid]
            assert all(n == 0 for n, _ in rejected)
            total += chance * (1 - stands) * np.bincount([token for _, token in rejected], minlength=V) / 2000
    np.testing.assert_allclose(total, p[0], atol=1e-3)
    residual = np.maximum(p[0] - q[0], 0)  # the same sum with the formula of the replacement: exact
    exact = np.minimum(p[0], q[0])
    if residual.sum() > 0:
        exact = exact + (1 - exact.sum()) * residual / residual.sum()
    np.testing.assert_allclose(exact, p[0], atol=1e-12)


def test_the_second_token_follows_the_targets_own_second_distribution():
    p = np.array([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    q = np.array([[1.0, 0.0, 0.0], [0.6, 0.3, 0.1]])
    counts = np.zeros(3)
    stream = np.random.default_rng(0)
    for _ in range(20000):
        second = int(stream.choice(3, p=q[1]))
        n, token = accept(p, q, [0, second], stream.random(3))
        assert n >= 1
        counts[second if n == 2 else token] += 1
        if n == 2:
            assert token == 1  # the token after both is the target's
    np.testing.assert_allclose(counts / 20000, p[1], atol=0.012)


def test_a_greedy_draft_stands_while_it_is_right():
    p = np.eye(5)[[3, 1, 4]]
    assert accept(p, np.eye(5)[[3, 1]], [3, 1], [0.0, 0.0, 0.0]) == (2, 4)
    assert accept(p, np.eye(5)[[3, 2]], [3, 2], [0.99, 0.0, 0.99]) == (1, 1)
    assert accept(p, np.eye(5)[[0, 1]], [0, 1], [0.0, 0.0, 0.5]) == (0, 3)
    assert accept(p[:1], np.zeros((0, 5)), [], [0.5]) == (0, 3)


def test_prompt_lookup_finds_what_came_after():
    text = [1, 2, 3, 9, 9, 1, 2, 3, 4, 5, 7, 1, 2, 3]
    assert PromptLookup(3).propose(text, 2) == [4, 5]  # the latest of two places
    assert PromptLookup(3).propose(text, 50) == [4, 5, 7, 1, 2, 3]
    assert PromptLookup(3).propose([1, 2, 3], 4) == []
    assert PromptLookup(3).propose([8, 8], 2) == [8]
    assert PromptLookup(2).propose([5], 2) == []
    with pytest.raises(ValueError, match="ngram must be at least 1, got 0"):
        PromptLookup(0)


SAMPLINGS = [
    Sampling(), Sampling(temperature=0.6, top_p=0.9), Sampling(top_k=5), Sampling(temperature=1.7, min_p=0.05),
    Sampling(top_p=0.999), Sampling(repetition_penalty=1.3, top_k=50, top_p=0.8),
]  # fmt: skip


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("spread", [0.01, 4.0])
def test_what_is_decided_quickly_is_what_whole_distributions_say(sampling, spread, monkeypatch):
    """Guesses and verdicts are those of `accept` with all distributions in float64, also of a large vocabulary."""
    stream, V, n, text = np.random.default_rng(3), 20011, 4, [7, 11, 13]
    asked, ends = [], set()
    monkeypatch.setattr(verdicts, "probabilities", lambda *given: asked.append(1) or probabilities(*given))
    for _ in range(8):
        rows = spread * stream.standard_normal((n + 1, V)).astype(np.float32)
        near = (rows + 0.5 * stream.standard_normal((n + 1, V))).astype(np.float32)
        uniforms, drafted, places = stream.random(2 * n + 1), [], []
        for i in range(n):
            places.append(Place(near[i : i + 1], sampling, text + drafted))
            drafted.append(
                int(draw(probabilities(near[i : i + 1], sampling, [text + drafted]), uniforms[i : i + 1])[0])
            )
            assert places[-1].draw(uniforms[i]) == drafted[-1]
        p = probabilities(rows, sampling, [text + drafted[:i] for i in range(n + 1)])
        q = [probabilities(one.logits, sampling, [one.text])[0] for one in places]
        want = accept(p, np.array(q), drafted, uniforms[n:])
        asked.clear()
        assert verify(rows, places, drafted, sampling, text, iter(uniforms[n:]).__next__) == want
        if sampling.repetition_penalty is None:
            assert len(asked) == 2 * (want[0] < n)  # both where a token is replaced, and no other
        ends.add(want[0])
    assert len(ends) > 1 or spread < 1  # two flat distributions share all of their tokens, or none of the likeliest


@pytest.mark.parametrize("sampling", SAMPLINGS[:-1], ids=str)
def test_a_chance_lies_within_its_error(sampling):
    stream = np.random.default_rng(5)
    for spread in (0.01, 1.0, 8.0):
        logits = spread * stream.standard_normal((1, 20011)).astype(np.float32)
        exact = probabilities(logits, sampling)[0]
        for token in [*np.argsort(exact)[[-1, -2, -3, -30]], *stream.integers(0, 20011, 5)]:
            chance, error = chance_quickly(logits, sampling, int(token))
            assert abs(chance - exact[token]) <= error <= 1e-4 * chance


def test_where_two_chances_are_too_near_whole_distributions_decide():
    logits = np.random.default_rng(0).standard_normal((1, 20011)).astype(np.float32)
    target, draft = (Place(logits + shift, Sampling(), []) for shift in (0, np.float32(0.25)))
    p, q = target.whole()[3], draft.whole()[3]
    for u in (np.nextafter(p / q, 0), p / q, np.nextafter(p / q, 2)):
        assert stands(target, draft, 3, u) == bool(u * q < p)
    sure = Certain(3, 20011)
    assert sure.whole()[3] == 1 and sure.whole().sum() == 1 and sure.chance(4) == (0.0, 0.0)
    assert stands(target, sure, 3, p / 2) and not stands(target, sure, 3, 2 * p)


def test_acceptance_counts_what_was_looked_at():
    result = SpeculativeResult(rounds=[(4, 4), (4, 1), (4, 0), (0, 0), (2, 2)])
    assert (result.drafted, result.accepted, result.target_calls) == (14, 7, 5)
    assert result.acceptance == 7 / 14 and result.token_acceptance == 7 / 9
    assert np.isnan(SpeculativeResult(rounds=[(0, 0)]).token_acceptance)
    assert np.isnan(SpeculativeResult().acceptance)
