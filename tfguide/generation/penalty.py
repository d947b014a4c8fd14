"""The repetition penalty: dense on a few numbers, and for a batch whose texts grow token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def penalise(logits: np.ndarray, penalty: float) -> np.ndarray:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones (Keskar et al. 2019): float64."""
    return np.where(logits > 0, logits / penalty, logits * penalty)


class Seen:
    """The tokens of each row's text: which logits of a batch the penalty changes, and to what.

    Each text is read once: a later call reads what was appended to the same list since. Another list is read anew.
    """

    def __init__(self, penalty: float, n_rows: int, vocab_size: int):
        self.penalty = penalty
        self._texts: list[Sequence[int]] = [()] * n_rows
        self._tokens = [np.empty(0, np.int64)] * n_rows  # of each text, in order; some stand there twice
        self._is_seen = np.zeros((n_rows, vocab_size), bool)

    def update(self, texts: Sequence[Sequence[int]]) -> None:
        """Read the texts, or what was appended to them since the last call."""
        for row, text in enumerate(texts):
            known = self._tokens[row]
            if text is not self._texts[row] or len(text) < len(known):
                self._texts[row], known = text, known[:0]
                self._is_seen[row] = False
            new = np.asarray(text[len(known) :], np.int64)
            self._is_seen[row, new] = True
            self._tokens[row] = np.concatenate([known, new])

    def penalised(self, logits: np.ndarray, rows: range) -> np.ndarray:
        """A copy of the logits of some rows with the penalty, rounded to their type: (R, V) to (R, V)."""
        result = logits.copy()
        flat = np.concatenate([self._tokens[row] + i * logits.shape[1] for i, row in enumerate(rows)])
        numbers = result.reshape(-1)
        numbers[flat] = penalise(numbers[flat].astype(np.float64), self.penalty)
        return result

    def exact(self, logits: np.ndarray, rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The penalised logits of tokens of rows in float64; all of one shape."""
        return np.where(self._is_seen[rows, tokens], penalise(logits, self.penalty), logits)
