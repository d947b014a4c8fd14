"""Speculative decoding without the models: what is accepted, and drafts that come from the text itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfguide.checks.values import check_count, make_plain
from tfguide.config import ModelConfig
from tfguide.generation.caching import check_generation
from tfguide.generation.choose import Sampling, draw, most_likely, probabilities


@dataclass(frozen=True)
class PromptLookup:
    """A draft without a model: what followed the last `ngram` tokens where they stood before in the text.

    The longest match wins, from `ngram` tokens down to 1, and of several the latest. Source: Saxena 2023, "Prompt
    Lookup Decoding". Raises ValueError for an ngram below 1.
    """

    ngram: int = 3

    def __post_init__(self):
        make_plain(self)
        check_count("ngram", self.ngram)

    def propose(self, text: Sequence[int], n_tokens: int) -> list[int]:
        """Up to `n_tokens` tokens that may come next; none where nothing matches."""
        text = np.asarray(text)
        for n in range(min(self.ngram, len(text) - 1), 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(text[:-1], n)
            found = np.flatnonzero((windows == text[-n:]).all(axis=1))
            if len(found):
                start = found[-1] + n
                return text[start : start + n_tokens].tolist()
        return []


@dataclass
class SpeculativeResult:
    """The tokens of each row, and how the drafts fared."""

    tokens: list[list[int]] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0
    target_calls: int = 0

    @property
    def acceptance(self) -> float:
        """Accepted of drafted tokens; NaN where none was drafted."""
        return self.accepted / self.drafted if self.drafted else float("nan")


def check_positions(
    target: ModelConfig, draft: ModelConfig | None, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    """Raises ValueError where a prompt and its continuation do not fit into the positions of the model or the draft."""
    longest = max(map(len, prompts))
    check_generation(target, longest, max_new_tokens)
    most = None if draft is None else draft.max_positions
    needed = longest + max_new_tokens - 2  # the last two tokens are the model's alone: nothing is guessed after them
    if most is not None and max_new_tokens > 1 and needed > most:
        raise ValueError(
            f"the draft has max_positions={most} positions, the prompt and its continuation need {needed} of it"
        )


def check_draft(target: ModelConfig, draft: ModelConfig | None, draft_length: int) -> int:
    """The draft's length, checked. Raises ValueError for models that cannot work together; draft: None for no model."""
    draft_length = check_count("draft_length", draft_length)
    for name, config in (("model", target), ("draft", draft)):
        if config is not None and config.kind != "decoder":
            raise ValueError(f"speculative decoding is for kind='decoder', got a {name} of kind {config.kind!r}")
    if draft is not None and draft.vocab_size != target.vocab_size:
        raise ValueError(
            f"model and draft must have one vocabulary, got {target.vocab_size} tokens and {draft.vocab_size}"
        )
    return draft_length


def accept(target: np.ndarray, draft: np.ndarray, drafted: Sequence[int], uniforms: Sequence[float]) -> tuple[int, int]:
    """How many drafted tokens stand, and the token that follows them.

    target: (n + 1, V), the target's distribution at every drafted position and after the last; draft: (n, V), what the
    drafted tokens were drawn from; uniforms: n + 1 random numbers. Token i stands with probability min(1, p / q); the
    first that falls is replaced by a draw from max(0, p - q), normalised. What comes out is distributed as if every
    token had been drawn from the target. Source: Leviathan et al. 2023, algorithm 1; Chen et al. 2023.
    """
    for i, token in enumerate(drafted):
        p, q = target[i, token], draft[i, token]
        if uniforms[i] * q >= p:
            residual = np.maximum(target[i] - draft[i], 0.0)
            # Where the two agree but for rounding there is no residual, and the target itself is as good.
            residual = residual if residual.sum() > 0 else target[i]
            return i, int(draw(residual[None], np.array([uniforms[-1]]))[0])
    return len(drafted), int(draw(target[len(drafted)][None], np.array([uniforms[-1]]))[0])


def guess(
    logits: np.ndarray, sampling: Sampling, text: Sequence[int], uniform: Callable[[], float]
) -> tuple[int, np.ndarray | None]:
    """A draft's next token from its logits (1, V), and the distribution (V,) it was drawn from; None where none was."""
    if sampling.temperature == 0:
        return int(most_likely(logits, sampling, [text])[0]), None
    distribution = probabilities(logits, sampling, [text])
    return int(draw(distribution, np.array([uniform()]))[0]), distribution[0]


def verify(
    logits: np.ndarray,
    draft: np.ndarray | None,
    drafted: Sequence[int],
    sampling: Sampling,
    text: Sequence[int],
    uniform: Callable[[], float],
) -> tuple[int, int]:
    """How many drafted tokens stand, and the token that follows them, from the target's logits (n + 1, V).

    draft: the distributions (n, V) that the tokens after `text` were drawn from, which `accept` wants. Temperature 0
    needs none: a token stands where it is the target's own, and no row of V numbers is made.
    """
    texts = [[*text, *drafted[:i]] for i in range(len(drafted) + 1)]
    if sampling.temperature == 0:
        own = most_likely(logits, sampling, texts).tolist()
        n = next((i for i, token in enumerate(drafted) if token != own[i]), len(drafted))
        return n, own[n]
    target = probabilities(logits, sampling, texts)
    return accept(target, draft, drafted, [uniform() for _ in range(len(drafted) + 1)])
