"""Tokens for many rows of logits without sorting them: the draws of `choose`, or None where rounding could decide.

`choose` computes the whole distribution in float64. Most of its V numbers cannot matter: top-k, top-p and min-p keep
few tokens. Here a row is reduced to its candidates first, and only their weights `exp((x - max) / temperature)` are
computed in float64. The mass of the others is summed in float32, and its error is bounded. A row is decided if no
comparison comes closer to equality than the bounds allow; its token is then the one that `choose` draws.

Rows are read in blocks that fit into the cache of a core: each pass of NumPy over a block reads it from there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfguide.generation.candidates import EXACT, Candidates, candidate_chances, draw_candidates, find_place
from tfguide.generation.penalty import Seen
from tfguide.generation.sampling import Sampling

# No sum of weights in float32 rounds one more than PARTS times. The weight exp(-a) has three roundings of its argument
# (the difference, 1 / temperature, their product), each 2**-24 of a, and NumPy's exponential is within 3 units of
# 2**-23. Above a = 20 an absolute error is counted: exp(-20) times the relative one at 88, where float32 ends.
PARTS = 32
WIDTH = 512  # tokens whose weights are summed pairwise: in 8 sums of 16, four times, which rounds a weight 20 times
ROWS = 16  # of a block
TURNS = 4  # after which candidates of top-p a row is given up
SAMPLE = 32  # every such token is looked at to guess how small the weights of the nucleus are


def draw_quickly(
    logits: np.ndarray, sampling: Sampling, uniforms: np.ndarray, seen: Seen | None = None
) -> list[int | None]:
    """The token of each row that `choose` draws: (B, V), (B,) to B integers, None where a row is not decided.

    uniforms: a random number in [0, 1) for each row. seen: the tokens to which the repetition penalty applies; default:
    no penalty. No row is decided whose largest logit is not finite, or if the temperature, which may be 0, lies outside
    1e-3 to 1e6.
    """
    if sampling.temperature and not 1e-3 <= sampling.temperature <= 1e6:
        return [None] * len(logits)
    logits = logits if logits.dtype == np.float32 else logits.astype(np.float64)
    rough = np.empty((ROWS, logits.shape[1]), np.float32)
    tokens: list[int | None] = []
    # A difference of float32 may be minus infinity: its weight is 0. The largest logit may be one.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        for start in range(0, len(logits), ROWS):
            rows = range(start, min(start + ROWS, len(logits)))
            block = _Block(logits[rows.start : rows.stop], rows, sampling, seen)
            tokens += block.draw(uniforms[rows.start : rows.stop], rough[: len(rows)])
    return tokens


def chance_quickly(logits: np.ndarray, sampling: Sampling, token: int) -> tuple[float, float] | None:
    """The chance of a token by logits (1, V) as `choose` draws it, and its largest error; None if not decided.

    There is no chance at temperature 0, and none of a penalty.
    """
    if sampling.repetition_penalty is not None or not 1e-3 <= sampling.temperature <= 1e6:
        return None
    logits = logits if logits.dtype == np.float32 else logits.astype(np.float64)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        block = _Block(logits, range(1), sampling, None)
        return block.chance(token, np.empty((1, logits.shape[1]), np.float32))


class _Block:
    """Some rows: their logits, and the numbers to read, which are the logits with the penalty in the same type."""

    def __init__(self, logits, rows, sampling, seen):
        self.logits, self.rows, self.sampling, self.seen = logits, rows, sampling, seen
        self.read = logits if seen is None else seen.penalised(logits, rows)
        self.tops = self.read.max(axis=1)  # of a row with NaN it is NaN

    def draw(self, uniforms, rough):
        """The token of each row, or None. rough: memory for a float32 number of each logit."""
        if not np.isfinite(self.tops).all():
            return [None] * len(self.tops)
        if self.sampling.temperature == 0:
            return self._above(self.tops).most_likely()
        if not self._is_limited():
            return self._draw_any(uniforms, rough)
        return self._decide(lambda found, rows: draw_candidates(found, self.sampling, uniforms[rows]), rough)

    def chance(self, token, rough):
        """The chance of a token of the only row and its largest error, or None. rough: as in `draw`."""
        if not np.isfinite(self.tops).all():
            return None
        if self._is_limited():
            tokens = np.array([token])
            [own] = self._decide(lambda found, rows: candidate_chances(found, self.sampling, tokens[rows]), rough)
            return None if own is None else (own, 2 * EXACT * own)
        relative, absolute = self._weigh(rough)
        total = _sums(rough)
        own = self._weights(0, token) / total
        return float(own[0]), float((own * (2 * EXACT + relative + absolute / total))[0])

    def _is_limited(self):
        sampling, n = self.sampling, self.read.shape[1]
        by_k, by_p = sampling.top_k is not None and sampling.top_k < n, sampling.top_p is not None
        return by_k or (by_p and sampling.top_p < 1) or bool(sampling.min_p)

    def _decide(self, decide, rough):
        """What `decide` says of the candidates of each row, or None. decide: (candidates, rows) to a list."""
        sampling, top_k = self.sampling, self.sampling.top_k
        if top_k is not None and top_k < self.read.shape[1]:
            return decide(self._above(_bound(self.read, top_k)), slice(None))
        if sampling.top_p is not None and sampling.top_p < 1:
            return self._decide_likely(decide, rough)
        least = self.tops + sampling.temperature * np.log(sampling.min_p / 2)
        return decide(self._above(least), slice(None))

    def _above(self, bounds):
        """The tokens that are not below a bound of their row."""
        flat = np.flatnonzero(self.read >= _below(bounds, self.tops)[:, None])
        return self._candidates(np.arange(len(self.tops)), *np.divmod(flat, self.read.shape[1]))

    def _candidates(self, kept, rows, tokens):
        """Candidates of the rows `kept`. rows: of each token its row, an index of `kept`."""
        return Candidates.padded(len(kept), rows, tokens, self._exact(kept[rows], tokens))

    def _exact(self, rows, tokens):
        """The logits of tokens in float64, as `choose` computes them."""
        logits = self.logits.reshape(-1).take(rows * self.logits.shape[1] + tokens).astype(np.float64)
        return logits if self.seen is None else self.seen.exact(logits, self.rows.start + rows, tokens)

    def _weigh(self, rough):
        """Write the weight of each token into `rough`; return the relative and the absolute error of a sum (R,)."""
        np.subtract(self.read, self.tops[:, None], out=rough, casting="same_kind")
        if self.sampling.temperature != 1:
            rough *= np.float32(1 / self.sampling.temperature)
        np.exp(rough, out=rough)
        sizes = np.abs(self.tops.astype(np.float64)) / self.sampling.temperature
        sizes = 0 * sizes if self.seen is None else sizes
        return _error(20, sizes), rough.shape[1] * np.exp(-20) * _error(88, sizes)

    def _decide_likely(self, decide, rough):
        """Top-p: few candidates hold the nucleus of a row; a row that is not decided is tried again with more."""
        relative, absolute = self._weigh(rough)
        totals, result, left = _sums(rough), np.full(len(rough), None), np.arange(len(rough))
        wanted = self.sampling.top_p * totals * (1 + 4 * relative)
        for turn in range(TURNS):
            weights = rough if turn == 0 else rough[left]
            least = _least_weight(turn, weights, totals[left], self.sampling.top_p)
            flat = np.flatnonzero(weights >= least[:, None])
            rows, tokens = np.divmod(flat, weights.shape[1])
            numbers = weights.reshape(-1)
            likely = numbers[flat]
            held = np.bincount(rows, likely, len(left))
            enough = (held > wanted[left]) | (turn == TURNS - 1)
            if enough.any():
                kept, chosen = left[enough], enough[rows]
                found = self._candidates(kept, (np.cumsum(enough) - 1)[rows[chosen]], tokens[chosen])
                if turn < TURNS - 1:  # without the candidates, the weights are those of the others
                    numbers[flat] = 0
                    others = _sums(weights)[enough]
                    numbers[flat] = likely
                    error = relative[kept] * others + absolute[kept]
                    most = least[enough] * (1 + 4 * relative[kept]) + absolute[kept]
                    found = replace(found, others=others, error=error, least=most)
                result[kept] = decide(found, kept)
            left = np.array([row for row in left if result[row] is None], np.int64)
            if not len(left):
                break
        return result.tolist()

    def _draw_any(self, uniforms, rough):
        """Without a limit: sums of WIDTH tokens say in which of them a number falls, float64 on which token."""
        relative, absolute = self._weigh(rough)
        running, n, rows = np.cumsum(_sums_of_width(rough), axis=1), rough.shape[1], np.arange(len(rough))
        totals = running[:, -1]
        part, _ = find_place(running, totals, uniforms, 0.0)
        before = np.where(part > 0, running[rows, part - 1], 0.0)
        tokens = part[:, None] * WIDTH + np.arange(WIDTH)
        inside = self._weights(rows[:, None], np.minimum(tokens, n - 1)) * (tokens < n)
        error = EXACT + relative + absolute / totals
        place, sure = find_place(before[:, None] + np.cumsum(inside, axis=1), totals, uniforms, error)
        sure &= uniforms * totals - before >= error * totals
        result = tokens[rows, place].tolist()
        for row in np.flatnonzero(~sure):  # too close to call in float32
            running = np.cumsum(self._weights(row, np.arange(n)))[None]
            (place,), (is_sure,) = find_place(running, running[:, -1], uniforms[row : row + 1], EXACT)
            result[row] = int(place) if is_sure else None
        return result

    def _weights(self, rows, tokens):
        """Weights in float64 of tokens of rows, which broadcast."""
        logits = self._exact(*np.broadcast_arrays(rows, tokens))
        return np.exp((logits - self.tops[rows].astype(np.float64)) / self.sampling.temperature)


def _error(a, sizes):
    """The relative error of a sum of weights exp(-a) in float32; see PARTS.

    sizes: of the largest logit, if it is penalised. It is then rounded, and so is that of the weight, which is at most
    `a` larger: each by 2**-24 of its size.
    """
    return (4 * a + 6 + PARTS + 2 * sizes) * 2.0**-24


def _bound(logits, k):
    """A lower bound of the k-th largest logit of each row: that of the largest ones of the columns of a folded row."""
    n_rows, n = logits.shape
    width = n // PARTS
    if k > width // 2:
        return np.partition(logits, -k, axis=1)[:, -k]
    folded = logits[:, : PARTS * width].reshape(n_rows, PARTS, width)
    return np.partition(folded.max(axis=1), -k, axis=1)[:, -k]


def _least_weight(turn, weights, totals, share):
    """The least weight (R,) of candidates, smaller in each turn: of few, a guess of what the nucleus needs, of all."""
    if turn == 0:
        return (totals / 2048).astype(np.float32)  # which at most 2048 weights reach
    if turn == TURNS - 1:
        return np.zeros(len(weights), np.float32)
    sample = np.sort(weights[:, ::SAMPLE], axis=1)
    smaller = SAMPLE * np.cumsum(sample, axis=1, dtype=np.float64)  # about what the weights sum to that are not larger
    place = (smaller < (1 - share) * 0.8 * totals[:, None]).sum(axis=1)
    guess = np.where(place > 0, sample[np.arange(len(sample)), place - 1], 0)
    return np.minimum(guess, totals / 2048).astype(np.float32) / (1 if turn == 1 else 64)


def _below(bounds, tops):
    """A little below each logit: logits whose differences from the largest round to the same number are above it."""
    bounds = bounds.astype(np.float64)
    lowered = bounds - 1e-12 * np.maximum(tops - bounds, 0)
    return np.nextafter(lowered.astype(tops.dtype), tops.dtype.type(-np.inf))


def _sums(weights):
    """The sums (R,) of weights (R, V): in float32 over PARTS of a row, then in float64."""
    width = weights.shape[1] // PARTS
    folded = weights[:, : PARTS * width].reshape(len(weights), PARTS, width).sum(axis=1)
    return folded.sum(axis=1, dtype=np.float64) + weights[:, PARTS * width :].sum(axis=1, dtype=np.float64)


def _sums_of_width(weights):
    """The sum of each WIDTH neighbours, the last ones of fewer: (R, V) to float64 (R, V / WIDTH)."""
    n = weights.shape[1] // WIDTH
    whole = weights[:, : n * WIDTH].reshape(len(weights), n, WIDTH).sum(axis=2)
    rest = weights[:, n * WIDTH :].sum(axis=1, keepdims=True)
    return np.concatenate([whole, rest] if n * WIDTH < weights.shape[1] else [whole], axis=1, dtype=np.float64)
