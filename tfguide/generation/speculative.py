"""Speculative decoding: a cheap draft proposes some tokens, and the model checks all of them in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tfguide.checks.values import check_count, make_plain
from tfguide.config import ModelConfig
from tfguide.generation.checks import check_generation
from tfguide.generation.choose import Chooser, most_likely
from tfguide.generation.prompts import pad_prompts, stopping
from tfguide.generation.sampling import Sampling
from tfguide.generation.verbs import Generator
from tfguide.generation.verdicts import Certain, Place, verify


@dataclass(frozen=True)
class PromptLookup:
    """A draft without a model: it proposes what followed an earlier occurrence of the last `ngram` tokens in the text.

    The longest match wins, from `ngram` tokens down to 1; among equally long ones, the latest. Source: Saxena 2023,
    "Prompt Lookup Decoding". Raises ValueError for an ngram below 1.
    """

    ngram: int = 3

    def __post_init__(self):
        make_plain(self)
        check_count("ngram", self.ngram)

    def propose(self, text: Sequence[int], n_tokens: int) -> list[int]:
        """Up to `n_tokens` tokens that may come next; none if nothing matches."""
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
    """The tokens of each row, and for each call of the model how many tokens were drafted and how many accepted."""

    tokens: list[list[int]] = field(default_factory=list)
    rounds: list[tuple[int, int]] = field(default_factory=list)

    @property
    def drafted(self) -> int:
        """The tokens that were proposed."""
        return sum(drafted for drafted, _ in self.rounds)

    @property
    def accepted(self) -> int:
        """The tokens of the draft that stand."""
        return sum(accepted for _, accepted in self.rounds)

    @property
    def target_calls(self) -> int:
        """The calls of the model."""
        return len(self.rounds)

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were accepted; NaN if none was drafted."""
        return self.accepted / self.drafted if self.drafted else float("nan")

    @property
    def token_acceptance(self) -> float:
        """The share of those that were looked at: the a of `cost.speculative_tokens`; NaN if none was drafted.

        What stands behind a rejected token is drafted and never looked at.
        """
        rejected = sum(accepted < drafted for drafted, accepted in self.rounds)
        return self.accepted / (self.accepted + rejected) if self.drafted else float("nan")


def check_positions(
    target: ModelConfig, draft: ModelConfig | None, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    """Raises ValueError if a prompt and its continuation do not fit into the positions of the model or the draft."""
    longest = max(map(len, prompts))
    check_generation(target, longest, max_new_tokens)
    most = None if draft is None else draft.max_positions
    needed = longest + max_new_tokens - 2  # nothing is drafted after the last two tokens
    if target.kind == "encoder-decoder":  # whose decoder reads its start token instead of the prompt
        needed = max(longest, max_new_tokens - 1)
    if most is not None and max_new_tokens > 1 and needed > most:
        raise ValueError(
            f"the draft has max_positions={most} positions, the prompt and its continuation need {needed} of it"
        )


def check_draft(target: ModelConfig, draft: ModelConfig | None, draft_length: int) -> int:
    """The draft's length, checked. Raises ValueError for models that cannot work together; draft: None for no model."""
    draft_length = check_count("draft_length", draft_length)
    if target.kind == "encoder":
        raise ValueError("speculative decoding is for a model that generates, got a model of kind 'encoder'")
    if draft is not None and draft.kind != target.kind:
        raise ValueError(
            f"expected a draft of kind {target.kind!r} as the model is, got a draft of kind {draft.kind!r}"
        )
    if draft is not None and draft.vocab_size != target.vocab_size:
        raise ValueError(
            f"model and draft must have one vocabulary, got {target.vocab_size} tokens and {draft.vocab_size}"
        )
    return draft_length


def speculative_generate(
    model: Generator,
    draft: Generator | PromptLookup,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    draft_length: int = 4,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
    cache_dtype: str | None = None,
) -> SpeculativeResult:
    """Continue each prompt as `generate` does, with fewer calls of the model.

    draft: a smaller model of the same vocabulary and kind, or a `PromptLookup`, which copies from the text itself, or
    from the source that an encoder-decoder reads. In each round it proposes up to `draft_length` tokens, the model
    computes all their distributions in one call, and `accept` keeps as many as the model's own distribution allows. The
    tokens are distributed exactly as those of `generate`; greedy ones are the same. Prompts are processed one after the
    other. cache_dtype: of the caches of both models, as in `generate`. Source: Leviathan et al. 2023; Chen et al. 2023.

    Raises ValueError for a draft of another vocabulary or kind, an encoder, `draft_length` below 1, and as `generate`.
    """
    other = None if isinstance(draft, PromptLookup) else draft.config
    draft_length = check_draft(model.config, other, draft_length)
    pad_prompts(prompts, model.config.vocab_size)
    max_new_tokens, stops = stopping(model.config, max_new_tokens, stop_tokens)
    check_positions(model.config, other, prompts, max_new_tokens)
    result = SpeculativeResult()
    for row, prompt in enumerate(prompts):
        chooser = Chooser(sampling, row + 1)
        text = [int(token) for token in prompt]
        round_of = _Rounds(model, draft, text, max_new_tokens, chooser, row, result, cache_dtype)
        new: list[int] = []
        while len(new) < max_new_tokens and not (new and new[-1] in stops):
            for token in round_of(min(draft_length, max_new_tokens - len(new) - 1)):
                new.append(token)
                if token in stops:
                    break
        result.tokens.append(new)
    return result


class _Rounds:
    """The state of one text: its tokens, and the caches of the model and of the draft."""

    def __init__(self, model, draft, prompt, max_new_tokens, chooser, row, result, cache_dtype):
        self.model, self.draft, self.result = model, draft, result
        self.sampling, self.uniform = chooser.sampling, chooser.streams[row].random
        # A decoder continues the prompt; one after an encoder begins a text of its own, which no penalty counts in.
        self.source = prompt if model.config.kind == "encoder-decoder" else None
        self.text = prompt if self.source is None else [model.config.decoder_start_token_id]
        self.own = 0 if self.source is None else 1
        room = len(self.text) + max_new_tokens - 1  # the last token is returned but never read
        self.cache, self.draft_cache = model.new_cache(1, room, cache_dtype), None
        self.cache.begin(len(self.text))  # the first call reads guesses as well
        if not isinstance(draft, PromptLookup):
            self.draft_cache = draft.new_cache(1, max(room - 1, 1), cache_dtype)

    def __call__(self, n_draft):
        """The tokens that one round adds, at least one."""
        n_known = int(self.cache.lengths[0])  # the cache never holds the last token of the text
        if self.source is not None and n_known == 0:  # the source is read with the first token, before any guess
            guesses, q = [], []
            logits = self.model.prefill([self.text], self.cache, source=[self.source])
        else:
            guesses, q = self._guess(n_draft)
            fed = np.array([self.text[n_known:] + guesses])
            logits = self.model.score(fed, self.cache, last=len(guesses) + 1)[0]  # (n + 1, V)
        n, token = verify(logits, q, guesses, self.sampling, self.text[self.own :], self.uniform)
        self.text += [*guesses[:n], token]
        self.result.rounds.append((len(guesses), n))
        kept = len(self.text) - 1
        self.cache.rewind(kept)
        if self.draft_cache is not None:
            self.draft_cache.rewind(min(kept, int(self.draft_cache.lengths[0])))
        return [*guesses[:n], token]

    def _guess(self, n):
        """Up to n drafted tokens, and what they were drawn from."""
        if self.draft_cache is None:
            known = [*(self.source or []), *self.text[self.own :]]
            guesses = self.draft.propose(known, n) if n else []
            return guesses, [Certain(token, self.model.config.vocab_size) for token in guesses]
        guesses, places = [], []
        while len(guesses) < n:
            logits = self.draft.decode(guesses[-1:], self.draft_cache) if guesses else self._caught_up()
            places.append(Place(logits, self.sampling, self.text[self.own :] + guesses))
            if self.sampling.temperature == 0:
                guesses.append(int(most_likely(logits, self.sampling, [places[-1].text])[0]))
            else:
                guesses.append(places[-1].draw(self.uniform()))
        return guesses, places

    def _caught_up(self):
        """The draft's logits (1, V) after the text, of which it reads what its cache does not hold."""
        n_known = int(self.draft_cache.lengths[0])
        unread = [self.text[n_known:]]
        if self.source is None:
            return self.draft.prefill(unread, self.draft_cache)
        if n_known == 0:
            return self.draft.prefill(unread, self.draft_cache, source=[self.source])
        return self.draft.score(np.array(unread), self.draft_cache, last=1)[:, 0]
