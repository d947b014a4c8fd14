"""The speed of tokens as they come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TextIO


class Counted:
    """Tokens in the order in which they come, counted and timed.

    tokens: what is passed on. n_prompt: the number of tokens of the prompt that was read before them.
    live: a terminal on which one line shows the speed, about five times a second; default: none.
    """

    def __init__(self, tokens: Iterable[int], n_prompt: int, live: TextIO | None = None):
        self.tokens, self.n_prompt, self.live = tokens, n_prompt, live
        self.times: list[float] = []
        self.start = self._shown = time.perf_counter()

    def __iter__(self) -> Iterator[int]:
        for token in self.tokens:
            self.times.append(time.perf_counter())
            if self.live and self.times[-1] - self._shown > 0.2:
                self._shown = self.times[-1]
                print(f"\r{self.summary()} ", end="", file=self.live, flush=True)
            yield token
        if self.live:
            print(end="\r", file=self.live)

    def summary(self) -> str:
        """How long the prompt took, and the new tokens a second."""
        if not self.times:
            return f"{self.n_prompt} tokens in the prompt, none new"
        line = f"{self.n_prompt} tokens read in {self.times[0] - self.start:.2f} s"
        n, seconds = len(self.times), self.times[-1] - self.times[0]
        return line + (f", {n} new at {(n - 1) / seconds:.1f} tokens/s" if n > 1 else "")
