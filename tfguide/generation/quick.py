"""Tokens for many rows of logits without sorting them: the draws of `choose`, or None where rounding could decide.

`choose` computes the whole distribution in float64. Most of its V numbers cannot matter: top-k, top-p and min-p keep
few tokens. Here a row is reduced to its candidates first, and only their weights `exp((x - max) / temperature)` are
computed in float64. The mass of the others is summed in float32, and its error is bounded. A row is decided if no
comparison comes closer to equality than the bounds allow; its token is then the one that `choose` draws.
"""

from __future__ import annotations

import numpy as np

from tfguide.generation.sampling import Sampling

# Relative error of sums of up to a million weights in float64, here and in `choose`: n * 2**-53, rounded up.
EXACT = 1e-9
# Relative error of a weight in float32, exp(-a) with a below 20: (3 a + 8) * 2**-24. Three roundings change the
# argument (the difference, 1 / temperature, their product), and NumPy's exponential is within 3 units of 2**-23.
ROUGH = 68 * 2.0**-24
# Absolute error of a weight with a above 20: less than exp(-20) times the relative error at 88, where float32 ends.
TAIL = 3.5e-14
WIDTH = 512  # columns of which `_bound` takes the largest logit


def draw_quickly(logits: np.ndarray, sampling: Sampling, uniforms: np.ndarray) -> list[int | None]:
    """The token of each row that `choose` draws: (B, V), (B,) to B integers, None where a row is not decided.

    uniforms: a random number in [0, 1) for each row. No row is decided if a logit is NaN or infinity, if a row is minus
    infinity everywhere, or if the temperature lies outside 1e-3 to 1e6. The repetition penalty is not applied here.
    """
    logits = logits if logits.dtype == np.float32 else logits.astype(np.float64)
    tops = logits.max(axis=1)  # of a row with NaN it is NaN
    if not np.isfinite(tops).all() or not 1e-3 <= sampling.temperature <= 1e6:
        return [None] * len(logits)
    few = sampling.top_k is not None and sampling.top_k < logits.shape[1]
    bounds = _bound(logits, sampling.top_k) if few else [None] * len(logits)
    rough = np.empty(logits.shape[1], np.float32)
    rows = zip(logits, tops, bounds, uniforms.tolist(), strict=True)
    with np.errstate(over="ignore", divide="ignore"):  # a difference of float32 may be minus infinity: its weight is 0
        return [_draw(row, top, bound, sampling, uniform, rough) for row, top, bound, uniform in rows]


def _draw(row, top, bound, sampling, uniform, rough):
    """The token of one row, or None. bound: a logit that no token of the k most likely ones is below, or None."""
    share = 1.0 if sampling.top_p is None else sampling.top_p
    if bound is not None:
        tokens = np.flatnonzero(row >= _below(bound, top))
        scaled = (row[tokens].astype(np.float64) - float(top)) / sampling.temperature
        kept = scaled >= np.partition(scaled, -sampling.top_k)[-sampling.top_k]  # as in `choose`, to the last bit
        tokens, weights = tokens[kept], np.exp(scaled[kept])
        kept = _nucleus(weights, share, float(weights.sum()), EXACT) if share < 1 else slice(None)
    elif share < 1:
        tokens, weights, kept = _likely(row, top, share, sampling.temperature, rough)
    elif sampling.min_p:
        least = float(top) + sampling.temperature * np.log(sampling.min_p / 2)
        tokens = np.flatnonzero(row >= _below(least, top))
        weights, kept = _weights(row, top, tokens, sampling.temperature), slice(None)
    else:
        return _draw_roughly(row, top, sampling.temperature, uniform, rough)
    if kept is None:
        return None
    tokens, weights = tokens[kept], weights[kept]
    if sampling.min_p:
        if (np.abs(weights / sampling.min_p - 1) < EXACT)[weights < 1].any():
            return None
        kept = weights >= sampling.min_p
        tokens, weights = tokens[kept], weights[kept]
    place = _place(np.cumsum(weights), uniform, EXACT)
    return None if place is None else int(tokens[place])


def _bound(logits, k):
    """A lower bound of the k-th largest logit of each row: that of the largest ones of the columns of a folded row."""
    n_rows, n = logits.shape
    if k > WIDTH or n < 4 * WIDTH:
        return np.partition(logits, -k, axis=1)[:, -k]
    folded = logits[:, : n // WIDTH * WIDTH].reshape(n_rows, -1, WIDTH)
    return np.partition(folded.max(axis=1), -k, axis=1)[:, -k]


def _below(bound, top):
    """A number a little below a logit: logits whose differences from `top` round to the same number are above it."""
    bound = float(bound)
    return np.nextafter(top.dtype.type(bound - 1e-12 * (float(top) - bound)), top.dtype.type(-np.inf))


def _weights(row, top, tokens, temperature):
    return np.exp(np.subtract(row[tokens], top, dtype=np.float64) / temperature)


def _rough_weights(row, top, temperature, out):
    """Write the weights of a whole row in float32 into `out`."""
    np.subtract(row, top, out=out, casting="same_kind")
    if temperature != 1:
        out *= np.float32(1 / temperature)
    np.exp(out, out=out)


def _likely(row, top, share, temperature, out):
    """Candidates that hold the nucleus of a row, their weights, and which of them are in it (None: not decided)."""
    _rough_weights(row, top, temperature, out)
    total = float(out.sum(dtype=np.float64))
    for least in (total / 1024, total / 32768, 0.0):  # at most 1024 weights reach total / 1024
        tokens = np.flatnonzero(out >= least)
        held = float(out[tokens].sum(dtype=np.float64))
        if held > share * total * (1 + 4 * ROUGH):
            break
    weights = _weights(row, top, tokens, temperature)
    others = max(0.0, total - held)
    total = float(weights.sum()) + others
    error = EXACT + (ROUGH * others + TAIL * len(row)) / total
    return tokens, weights, _nucleus(weights, share, total, error, least * (1 + 4 * ROUGH))


def _nucleus(weights, share, total, error, least=0.0):
    """Which weights are the fewest that sum to a share of the total, as indices in order, or None: not decided.

    error: of a sum, as a part of the total. least: a weight that tokens which are no candidates may have.
    """
    ranked = np.sort(weights)[::-1]
    running, wanted, error = np.cumsum(ranked), share * total, error * total
    n = int(np.searchsorted(running, wanted))  # the first that reaches the share
    if n == len(ranked) or running[n] - wanted < error or (n and wanted - running[n - 1] < error) or ranked[n] < least:
        return None
    if n + 1 < len(ranked) and ranked[n + 1] > ranked[n] * (1 - EXACT):
        return None  # as good as equal: their order decides, and rounding may decide their order
    return np.flatnonzero(weights >= ranked[n])


def _draw_roughly(row, top, temperature, uniform, out):
    """The token of a row of which every token may be drawn, or None: the sums of blocks first, then within a block."""
    _rough_weights(row, top, temperature, out)
    starts = np.arange(0, len(out), WIDTH)
    running = np.cumsum(np.add.reduceat(out, starts, dtype=np.float64))
    error = EXACT + ROUGH + TAIL * len(row) / running[-1]
    block = min(int(np.searchsorted(running, uniform * running[-1], side="right")), len(running) - 1)
    inside = np.cumsum(out[starts[block] : starts[block] + WIDTH], dtype=np.float64)
    before = running[block - 1] if block else 0.0
    place = _place(np.concatenate([before + inside, running[-1:]]), uniform, error)
    if place is None or place == len(inside):  # too close to call in float32
        return _place(np.cumsum(_weights(row, top, slice(None), temperature)), uniform, EXACT)
    return int(starts[block]) + place


def _place(running, uniform, error):
    """The first place at which a running sum passes a share of its last number, or None: not decided."""
    total = running[-1]
    place = int(np.searchsorted(running, uniform * total, side="right"))
    if place == len(running) or running[place] - uniform * total < error * total:
        return None
    before = running[place - 1] if place else 0.0
    return place if uniform * total - before >= error * total else None
