"""Speculative decoding: a cheap draft guesses some tokens, and the model checks all of them in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tfguide.generation import Chooser, PromptLookup, Sampling, SpeculativeResult, pad_prompts
from tfguide.generation.choose import one_hot
from tfguide.generation.greedy import stopping
from tfguide.generation.speculative import check_draft, check_positions, guess, verify
from tfguide.torch.generate import decode, new_cache, prefill
from tfguide.torch.models import Decoder


def speculative_generate(
    model: Decoder,
    draft: Decoder | PromptLookup,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = 64,
    draft_length: int = 4,
    stop_tokens: Sequence[int] | int | None = None,
    sampling: Sampling | None = None,
) -> SpeculativeResult:
    """Continue each prompt as `generate` does, with fewer calls of the model.

    draft: a smaller model of the same vocabulary, or a `PromptLookup`, which guesses from the text itself. Each round
    it guesses up to `draft_length` tokens, the model computes all their distributions in one call, and `accept` keeps
    as many as the model's own distribution allows. The tokens are distributed exactly as those of `generate`; greedy
    ones are the same. Prompts are taken one after the other. Source: Leviathan et al. 2023; Chen et al. 2023.

    Raises ValueError for a draft of another vocabulary, a model that is not decoder-only, `draft_length` below 1, and
    as `generate`.
    """
    other = None if isinstance(draft, PromptLookup) else draft.config
    draft_length = check_draft(model.config, other, draft_length)
    pad_prompts(prompts, model.config.vocab_size)
    max_new_tokens, stops = stopping(model.config, max_new_tokens, stop_tokens)
    check_positions(model.config, other, prompts, max_new_tokens)
    result = SpeculativeResult()
    for row, prompt in enumerate(prompts):
        chooser = Chooser(sampling, row + 1)
        round_of = _Rounds(model, draft, [int(token) for token in prompt], max_new_tokens, chooser, row, result)
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

    def __init__(self, model, draft, text, max_new_tokens, chooser, row, result):
        self.model, self.draft, self.text, self.result = model, draft, text, result
        self.sampling, self.uniform = chooser.sampling, chooser.streams[row].random
        room = len(text) + max_new_tokens - 1  # the last token is returned, never read
        self.cache = new_cache(model, 1, room)
        self.draft_cache = None if isinstance(draft, PromptLookup) else new_cache(draft, 1, max(room - 1, 1))

    def __call__(self, n_draft):
        """One round: the tokens that it adds, at least one."""
        guesses, q = self._guess(n_draft)
        n_known = int(self.cache.lengths[0])  # the cache never holds the last token of the text
        fed = torch.tensor([self.text[n_known:] + guesses])
        with torch.inference_mode():
            hidden = self.model.hidden(fed, cache=self.cache)
            logits = self.model.logits(hidden[:, -len(guesses) - 1 :])[0].float().cpu().numpy()  # (n + 1, V)
        n, token = verify(logits, q, guesses, self.sampling, self.text, self.uniform)
        self.text += [*guesses[:n], token]
        self.result.drafted += len(guesses)
        self.result.accepted += n
        self.result.target_calls += 1
        kept = len(self.text) - 1
        self.cache.rewind(kept)
        if self.draft_cache is not None:
            self.draft_cache.rewind(min(kept, int(self.draft_cache.lengths[0])))
        return [*guesses[:n], token]

    def _guess(self, n):
        """Up to n guessed tokens, and the distributions (n, V) that they were drawn from; None at temperature 0."""
        if n == 0:
            return [], None
        drawn = self.sampling.temperature > 0
        if self.draft_cache is None:
            guesses = self.draft.propose(self.text, n)
            return guesses, one_hot(guesses, self.model.config.vocab_size) if drawn else None
        guesses, q = [], []
        logits = prefill(self.draft, [self.text[int(self.draft_cache.lengths[0]) :]], self.draft_cache)
        while True:
            token, distribution = guess(logits.float().cpu().numpy(), self.sampling, self.text + guesses, self.uniform)
            guesses.append(token)
            q.append(distribution)
            if len(guesses) == n:
                return guesses, np.array(q) if drawn else None
            logits = decode(self.draft, [guesses[-1]], self.draft_cache)
