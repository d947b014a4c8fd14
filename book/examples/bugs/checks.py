"""A test for each of the eight functions: it fails for the broken version, and passes for the corrected one.

`bugs` is the module under test. What is expected comes from the reference in float64, or from the function itself
where the order or the company of what it is given must not matter.
"""

import numpy as np

import tfguide.reference as ref


def numbers(*shape, seed=0, size=1.0):
    """Random numbers in float32."""
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def same(got, expected, tolerance=1e-5):
    """Fails where two arrays differ anywhere by more than the tolerance, or hold NaN; says by how much, and where."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    apart = np.abs(got - expected)
    rows = apart.reshape(len(apart), -1).max(axis=1)
    wrong = np.flatnonzero(~(rows <= tolerance))
    assert not len(wrong), f"different in rows {', '.join(map(str, wrong))} by up to {rows[wrong].max():.2f}"


def exact(Q, K, V, visible=None):
    """The attention of one head by the reference: (T, d)."""
    four = (np.asarray(x, np.float64)[None, :, None] for x in (Q, K, V))  # (1, T, 1, d)
    return ref.scaled_dot_product_attention(*four, visible)[0, :, 0]


def check_step(bugs):
    """Steps with a cache give the rows of one causal pass."""
    T, d = 5, 3
    Q, K, V = numbers(3, T, d)
    whole = exact(Q, K, V, np.tri(T, dtype=bool))
    cache = bugs.new_cache(T, d)
    steps = [bugs.step(*map(bugs.tensor, (Q[n], K[n], V[n])), *cache, n) for n in range(T)]
    same(np.array(steps), whole)


def check_embed(bugs):
    """A text has the same vectors alone and beside a longer text."""
    table, positions = numbers(11, 3), numbers(7, 3, seed=1)
    text, longer = [4, 2, 9], [1, 8, 3, 5, 7]
    tokens, valid = np.array([[0, 0, *text], longer]), np.array([[0, 0, 1, 1, 1], [1] * 5], bool)
    alone = bugs.embed(*map(bugs.tensor, (np.array([text]), np.ones((1, 3), bool), table, positions)))
    beside = bugs.embed(*map(bugs.tensor, (tokens, valid, table, positions)))
    same(beside[0][2:], alone[0])


def check_attend(bugs):
    """What stands in the padding changes nothing."""
    Q, K, V = numbers(3, 2, 5, 3)
    valid = np.arange(5) < np.array([[5], [3]])
    other = np.where(valid[..., None], 0, 7).astype(np.float32)
    before, after = (bugs.attend(*map(bugs.tensor, (Q, K + x, V + x, valid))) for x in (0, other))
    same(after, before)


def check_prefill(bugs):
    """A prompt that is longer than the window gives what attention with a mask gives."""
    T, window, d = 7, 3, 5
    Q, K, V = numbers(3, T, d)
    band = np.tri(T, dtype=bool) & ~np.tri(T, k=-window, dtype=bool)
    outputs, keys, values = bugs.prefill(*map(bugs.tensor, (Q, K, V)), window)
    same(keys, K[-window:]), same(values, V[-window:])
    same(outputs, exact(Q, K, V, band))


def check_attend_in_half(bugs):
    """Numbers that float16 holds give what they give in float64, up to the roundings of float16."""
    for size in (1, 60):
        Q, K, V = numbers(3, 5, 64).astype(np.float16)
        Q, K = Q * np.float16(size), K * np.float16(size)
        same(bugs.attend_in_half(*map(bugs.tensor, (Q, K, V))), exact(Q, K, V), tolerance=0.01)


def check_accept(bugs):
    """Whatever the draft, tokens come out as often as the target gives them: all draws, on a fine grid."""
    p, q, fine = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5]), 200
    u, v = (np.stack(np.meshgrid(*2 * [np.arange(fine)])) + 0.5).reshape(2, -1) / fine
    chosen = [bugs.accept(p, q, np.full(u.shape, token), u, v) for token in range(3)]
    shares = sum(q[token] * np.bincount(chosen[token], minlength=3) / len(u) for token in range(3))
    same(shares, p, tolerance=0.01)


def check_draw(bugs):
    """A request draws the same tokens alone, among others, and in any order."""
    requests = [(seed, n) for seed in (5, 6) for n in range(4)]
    distributions = np.random.default_rng(0).dirichlet(np.ones(13), size=len(requests))
    alone = [bugs.draw(distributions[i : i + 1], requests[i : i + 1])[0] for i in range(len(requests))]
    same(bugs.draw(distributions, requests), alone)
    same(bugs.draw(distributions[::-1], requests[::-1])[::-1], alone)


def check_answer(bugs, model):
    """An answer does not depend on what was asked before it."""
    system, first, second = (1, 2, 3, 4, 5), [6, 7], [8, 9]
    fresh = bugs.answer(model, system, second, {})
    kept = {}
    bugs.answer(model, system, first, kept)
    same(bugs.answer(model, system, second, kept)[None], fresh[None])
