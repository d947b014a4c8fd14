"""Answers from a page: a decoder reads the page once, keeps its keys and values, and answers questions about it.

The prompt of a question is what the page's prompt is for every question, then the question. So the cache of the page
is rewound to its end, and only the question is read: the invariant of a kept prefix (section 6.2). The sentence of the
page that is nearest to the question stands beside the answer, since a small model may say what the page does not.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.generation import Chooser, Generator, Sampling, stopping
from tfguide.generation.choose import log_softmax
from tfguide.generation.generate import continue_texts
from tfguide.tasks.docstrings import sentences
from tfguide.text import ChatTemplate, Counted, pieces

LEAD = "A question that this text answers:"
ASK = "Answer it from the text, in one or two sentences."
LEAST = 0.5  # the score of the best passage below which nothing fits: `tfguide.bench.answers` measures its errors
LIKELY = 1.0  # weight of a question's mean log-likelihood after a passage, beside the score by which it was found
ROOM = 160  # tokens of a question and of what the template puts behind it
_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands for the question while the template is rendered


@dataclass
class _Page:
    """A page's prompt, the cache with the keys and values of all its tokens, and the logits (V,) after the last."""

    tokens: list[int]
    cache: Any
    logits: np.ndarray


class Reader:
    """A decoder that answers questions about pages and keeps the keys and values of the last few that it read.

    model: of either framework or of the kernels alone. tokenizer: a `tokenizers.Tokenizer`; template: see
    `read_template`. sampling: default: the most likely token. most_pages: how many are kept, the oldest is forgotten.
    `last`: the `Counted` tokens of the last answer, with its times; `n_kept`: the tokens of its prompt that were kept.
    Raises ValueError for a model that is no decoder and counts below 1.
    """

    def __init__(
        self,
        model: Generator,
        tokenizer: Any,
        template: ChatTemplate,
        max_new_tokens: int = 96,
        sampling: Sampling | None = None,
        most_pages: int = 16,
        cache_dtype: str | None = None,
    ):
        if model.config.kind != "decoder":
            raise ValueError(f"a reader needs a model of kind 'decoder', got {model.config.kind!r}")
        self.model, self.tokenizer, self.template, self.sampling = model, tokenizer, template, sampling
        self.max_new_tokens, self.stop_tokens = stopping(model.config, max_new_tokens, None)
        self.most_pages, self.cache_dtype = check_count("most_pages", most_pages), cache_dtype
        self.last: Counted | None = None
        self.n_kept = 0
        self._pages: OrderedDict[str, _Page] = OrderedDict()

    def prompt(self, page: str, question: str) -> tuple[list[int], list[int], list[int]]:
        """The tokens before the question, which are those of every question about the page; its own; those behind it.

        Raises ValueError for a question that is too long.
        """
        text = self.template.render([{"role": "user", "content": f"{page}\n\n{LEAD}{_PLACE}\n\n{ASK}"}])
        parts = text.partition(_PLACE)
        encode = self.tokenizer.encode
        before, asked, after = (
            list(encode(part, add_special_tokens=False).ids) for part in (parts[0], f" {question}", parts[2])
        )
        if len(asked) + len(after) > ROOM:
            raise ValueError(f"a question may have {ROOM - len(after)} tokens, this one has {len(asked)}")
        return before, asked, after

    def likelihood(self, page: str, question: str) -> float:
        """The mean log-probability of the question's tokens after the page: how well it fits there.

        Sources: Ponte & Croft 1998 (query likelihood); Sachan et al. 2022 (by a language model).
        """
        before, asked, _ = self.prompt(page, question)
        kept = self._page(page, before)
        kept.cache.rewind(len(before))
        later = self.model.score([asked[:-1]], kept.cache)[0] if len(asked) > 1 else np.empty((0, kept.logits.size))
        found = log_softmax(np.concatenate([kept.logits[None], later]))
        return float(found[np.arange(len(asked)), asked].mean())

    def answer(self, page: str, question: str) -> Iterator[str]:
        """The answer in pieces as they come. Raises ValueError for a question that is too long."""
        before, asked, after = self.prompt(page, question)
        self.n_kept = len(before) if page in self._pages else 0
        prompt = [*before, *asked, *after]
        self.last = Counted(self._tokens(page, before, asked + after), len(prompt) - self.n_kept)
        return pieces(self.tokenizer, prompt[-ROOM:], self.last)

    def forget(self) -> None:
        """Forget all pages."""
        self._pages.clear()

    @property
    def nbytes(self) -> int:
        """The bytes of all keys and values that are kept."""
        return sum(page.cache.nbytes for page in self._pages.values())

    def _page(self, page, before):
        if page not in self._pages:
            cache = self.model.new_cache(1, len(before) + ROOM + self.max_new_tokens, self.cache_dtype)
            logits = self.model.prefill([before], cache)[0]
            self._pages[page] = _Page(before, cache, logits)
            if len(self._pages) > self.most_pages:
                self._pages.popitem(last=False)
        self._pages.move_to_end(page)
        return self._pages[page]

    def _tokens(self, page, before, rest):
        cache = self._page(page, before).cache
        cache.rewind(len(before))
        logits = self.model.prefill([rest], cache)
        texts = [[*before, *rest]]
        for (token,) in continue_texts(
            self.model, logits, texts, cache, Chooser(self.sampling, 1), self.max_new_tokens, self.stop_tokens
        ):
            if token not in self.stop_tokens:
                yield token


def split_sentences(text: str) -> list[str]:
    """The sentences of a passage, its heading and its code among them: what stands in a paragraph is one line."""
    found = [one for paragraph in re.split(r"\n\s*\n", text) for one in sentences(paragraph)]
    return [" ".join(one.split()) for one in found if one.strip()]


def errors_of_threshold(threshold: float, answered: Sequence[float], outside: Sequence[float]) -> tuple[float, float]:
    """The share of questions that are refused though they have an answer, and of those answered that have none.

    answered, outside: the score of the best passage for each question of the two kinds.
    """
    return float(np.mean(np.asarray(answered) < threshold)), float(np.mean(np.asarray(outside) >= threshold))
