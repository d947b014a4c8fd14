"""Which drafted tokens stand, and what follows them: the rule of speculative decoding, and a quick way to apply it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfguide.generation.choose import draw, most_likely, one_hot, probabilities
from tfguide.generation.quick import chance_quickly, draw_quickly
from tfguide.generation.sampling import Sampling


class Place:
    """The distribution of the token at one place of a text, of which no more is computed than is asked for.

    logits: (1, V); text: the tokens before it.
    """

    def __init__(self, logits: np.ndarray, sampling: Sampling, text: Sequence[int]):
        self.logits, self.sampling, self.text = logits, sampling, text
        self._whole: np.ndarray | None = None

    def whole(self) -> np.ndarray:
        """The distribution (V,), float64; see `probabilities`."""
        if self._whole is None:
            self._whole = probabilities(self.logits, self.sampling, [self.text])[0]
        return self._whole

    def chance(self, token: int) -> tuple[float, float]:
        """The chance of a token, and its largest error: 0 where it was taken from the whole distribution."""
        return chance_quickly(self.logits, self.sampling, token) or (float(self.whole()[token]), 0.0)

    def draw(self, uniform: float) -> int:
        """The token that a uniform number draws."""
        u = np.array([uniform])
        quickly = self.sampling.repetition_penalty is None
        token = draw_quickly(self.logits, self.sampling, u)[0] if quickly else None
        return int(draw(self.whole()[None], u)[0]) if token is None else token


class Certain:
    """The distribution with probability 1 at one token, as a `Place`."""

    def __init__(self, token: int, vocab_size: int):
        self.token, self.vocab_size = token, vocab_size

    def whole(self) -> np.ndarray:
        """The distribution (V,), float64."""
        return one_hot([self.token], self.vocab_size)[0]

    def chance(self, token: int) -> tuple[float, float]:
        """1 or 0, without an error."""
        return float(token == self.token), 0.0


def accept(target: np.ndarray, draft: np.ndarray, drafted: Sequence[int], uniforms: Sequence[float]) -> tuple[int, int]:
    """The number of accepted drafted tokens, and the token that follows them.

    target: (n + 1, V), the target's distribution at every drafted position and after the last; draft: (n, V), the
    distributions that the drafted tokens were drawn from; uniforms: n + 1 random numbers. Token i is accepted with
    probability min(1, p / q); the first rejected one is replaced by a draw from max(0, p - q), normalised. The result
    is distributed as draws from the target. Source: Leviathan et al. 2023, algorithm 1; Chen et al. 2023.
    """
    for i, token in enumerate(drafted):
        if uniforms[i] * draft[i][token] >= target[i][token]:
            return i, replace(target[i], draft[i], uniforms[-1])
    return len(drafted), int(draw(target[len(drafted)][None], np.array([uniforms[-1]]))[0])


def replace(target: np.ndarray, draft: np.ndarray, uniform: float) -> int:
    """The token behind a rejection: drawn from max(0, p - q) of the distributions (V,), normalised."""
    residual = np.maximum(target - draft, 0.0)
    # If both distributions agree except for rounding, there is no residual: draw from the target.
    residual = residual if residual.sum() > 0 else target
    return int(draw(residual[None], np.array([uniform]))[0])


def stands(target: Place, draft: Place | Certain, token: int, uniform: float) -> bool:
    """Whether a drafted token is accepted, as `accept` decides it.

    Two chances and their errors are enough, unless the random number lies between.
    """
    (p, p_error), (q, q_error) = target.chance(token), draft.chance(token)
    gap = uniform * q - p
    if abs(gap) > uniform * q_error + p_error:
        return gap < 0
    return bool(uniform * draft.whole()[token] < target.whole()[token])


def verify(
    logits: np.ndarray,
    draft: Sequence[Place | Certain],
    drafted: Sequence[int],
    sampling: Sampling,
    text: Sequence[int],
    uniform: Callable[[], float],
) -> tuple[int, int]:
    """What `accept` says of drafted tokens, from the target's logits (n + 1, V), with few whole distributions.

    draft: what the tokens after `text` were drawn from. Temperature 0 needs none: a token is accepted if it is the
    target's own choice, and no row of V numbers is computed.
    """
    if sampling.temperature == 0:
        texts = [[*text, *drafted[:i]] for i in range(len(drafted) + 1)]
        own = most_likely(logits, sampling, texts).tolist()
        n = next((i for i, token in enumerate(drafted) if token != own[i]), len(drafted))
        return n, own[n]
    uniforms = [uniform() for _ in range(len(drafted) + 1)]
    places = [Place(logits[i : i + 1], sampling, [*text, *drafted[:i]]) for i in range(len(uniforms))]
    for i, token in enumerate(drafted):
        if not stands(places[i], draft[i], token, uniforms[i]):
            return i, replace(places[i].whole(), draft[i].whole(), uniforms[-1])
    return len(drafted), places[-1].draw(uniforms[-1])
