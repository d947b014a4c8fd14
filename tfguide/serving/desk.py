"""Where the lines of a batch are answered: one engine, and the answers that it writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfguide.serving.answer import Answer
from tfguide.serving.engine import Engine, Update
from tfguide.serving.lines import Line, LineError, Reader, answer_of, error_of
from tfguide.serving.request import Finish, Sequence
from tfguide.serving.scheduler import QueueFull


@dataclass(frozen=True)
class Result:
    """A line that has ended: its number, what is written for it, and why it has no answer, if it has none."""

    number: int
    fields: dict[str, Any]
    error: str | None = None


@dataclass(eq=False)
class _Pending:
    """A line whose texts are being continued."""

    line: Line
    digest: str
    answers: list[Answer]


class Desk:
    """Answers lines with an engine, many at once: `advance`."""

    def __init__(self, engine: Engine, reader: Reader):
        self.engine, self.reader = engine, reader
        self._held: tuple[Line, str, list[Sequence]] | None = None  # a line for which the queue has no room yet
        self._owners: dict[Sequence, tuple[_Pending, Answer]] = {}
        self._n_tokens = 0

    @property
    def is_idle(self) -> bool:
        """Whether no line waits or runs."""
        return self.engine.is_idle and self._held is None

    def count(self) -> int:
        """The new tokens since the last call."""
        n_tokens, self._n_tokens = self._n_tokens, 0
        return n_tokens

    def advance(self, lines: Iterator[tuple[int, bytes]]) -> list[Result]:
        """Take as many of the lines, (number, text), as may wait, and compute a step: what has ended."""
        done = list(self._fill(lines))
        for update in self.engine.step():
            done += self._take(update)
        return done

    def _fill(self, lines) -> Iterator[Result]:
        """Let lines wait until as many wait as may run, or as many had errors."""
        scheduler = self.engine.scheduler
        n_errors = 0
        while len(scheduler.waiting) < scheduler.limits.rows and n_errors < scheduler.limits.rows:
            number, digest = 0, ""
            try:
                if self._held is None:
                    number, text = next(lines, (0, b""))
                    if not number:
                        return
                    digest = self.reader.settings.digest(text)
                    line = self.reader.read(number, text)
                    self._held = line, digest, self._sequences(line)
                line, digest, sequences = self._held
                scheduler.add(sequences)
            except QueueFull as error:
                if not self.engine.is_idle:
                    return
                failed = _failure(line.number, digest, line.id, line.url, str(error))
            except LineError as error:
                failed = _failure(number, digest, error.id, error.url, str(error))
            else:
                self._held = None
                pending = _Pending(line, digest, [Answer(self.reader.tokenizer, s, line.stop) for s in sequences])
                self._owners |= {s: (pending, answer) for s, answer in zip(sequences, pending.answers, strict=True)}
                continue
            self._held = None
            n_errors += 1
            yield failed

    def _sequences(self, line):
        try:
            return self.engine.sequences(line.request)
        except (ValueError, TypeError) as error:
            raise LineError(str(error), line.id, line.url) from error

    def _take(self, update: Update) -> Iterator[Result]:
        """Give an update to its answer; the line, if it has ended with it."""
        owner = self._owners.get(update.sequence)
        if owner is None:  # its line has ended with an error
            return
        pending, answer = owner
        self._n_tokens += update.token is not None
        answer.take(update)
        if answer.is_cut:
            self.engine.abort(update.sequence)
        if answer.finish is None:
            return
        del self._owners[update.sequence]
        line = pending.line
        if answer.finish is Finish.ERROR:
            for other in pending.answers:
                self._owners.pop(other.sequence, None)
                self.engine.abort(other.sequence)
            yield _failure(line.number, pending.digest, line.id, line.url, str(update.sequence.error))
        elif all(other.finish is not None for other in pending.answers):
            yield Result(line.number, answer_of(line, pending.digest, self.reader.settings.model, pending.answers))


def _failure(number, digest, name, url, message):
    return Result(number, error_of(number, digest, name, url, message), message)
