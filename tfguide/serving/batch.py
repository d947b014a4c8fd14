"""A file of prompts and a file of answers: a batch, which goes on where it stopped."""

from __future__ import annotations

import json
import os
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tfguide.serving.desk import Desk, Result
from tfguide.serving.lines import Settings

_START = b'{"line": '  # of every line that is written
_WIDTH = 30


@dataclass(frozen=True)
class Ended:
    """A line that has been answered, or the reason why it could not be."""

    number: int
    error: str | None = None


@dataclass
class Progress:
    """How far a batch is.

    n_lines: of the input, without empty ones. n_before: those that earlier runs answered. n_done: those of this run.
    n_errors: of both. n_tokens: the new tokens of this run.
    """

    n_lines: int
    n_before: int
    n_errors: int
    n_done: int = 0
    n_tokens: int = 0
    start: float = field(default_factory=time.monotonic)

    @property
    def n_answered(self) -> int:
        """The lines that have an answer or an error."""
        return self.n_before + self.n_done

    def summary(self) -> str:
        """The lines, the errors, the speed, and the time left, if some lines of this run tell it."""
        seconds = max(1e-9, time.monotonic() - self.start)
        words = [f"{self.n_answered} of {self.n_lines} lines", f"{self.n_tokens / seconds:.1f} tokens/s"]
        if self.n_errors:
            words.insert(1, f"{self.n_errors} with errors")
        if self.n_done and self.n_answered < self.n_lines:
            left = round((self.n_lines - self.n_answered) * seconds / self.n_done)
            words.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
        return ", ".join(words)

    def bar(self) -> str:
        """The summary behind a bar."""
        filled = _WIDTH * self.n_answered // max(1, self.n_lines)
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self.summary()}"


class Files:
    """The two files of a batch: which lines are still to be answered, and where their answers go.

    source: a file of JSON lines, see `tfguide.serving.lines`; it is read twice and never held in memory, but for 8
    bytes of each line. target: where answers are written, each with the number of its line and a digest of the line and
    of the settings. Where it exists already, its lines are kept, half of a last one is dropped, and the lines
    that have an answer or an error are passed over.

    Raises ValueError where the source is no file, and where the target belongs to another input, model or settings.
    """

    def __init__(self, settings: Settings, source: str | os.PathLike, target: str | os.PathLike):
        self._settings = settings
        self._source, self._target = Path(source), Path(target)
        if not self._source.is_file():
            raise ValueError(f"the input must be a file, which is read twice: {self._source} is none")
        if self._target.exists() and self._target.samefile(self._source):
            raise ValueError(f"the answers must not be written over the input: {self._target}")
        self._answered = _Answered(self._target, self._source.stat().st_size)
        n_lines = self._compare()
        self.progress = Progress(n_lines, self._answered.n, self._answered.n_errors)

    def unanswered(self) -> Iterator[tuple[int, bytes]]:
        """(number, text) of the lines that have no answer yet."""
        return ((number, text) for number, text in _read(self._source) if not self._answered.has(number))

    def keep(self, done: Iterable[tuple[Iterable[Result], int]]) -> Iterator[list[Ended]]:
        """Write results as they come, each with the number of new tokens since the last ones; tell which lines ended.

        An interrupt loses what has no result.
        """
        with self._answered.open() as file:
            for results, n_tokens in done:
                yield self._note(file, results, n_tokens)
            file.flush()
            os.fsync(file.fileno())

    def _compare(self):
        """The lines of the input. Raises ValueError if an answer belongs to another line than the one of its number."""
        n_lines = n_found = 0
        for number, text in _read(self._source):
            n_lines += 1
            if self._answered.has(number):
                n_found += 1
                self._answered.check(number, self._settings.digest(text))
        if n_found != self._answered.n:
            raise ValueError(
                f"{self._target} has answers to {self._answered.n} lines, of which the input has {n_found}"
            )
        return n_lines

    def _note(self, file: BinaryIO, results: Iterable[Result], n_tokens: int) -> list[Ended]:
        """Write what has ended, and count it and the new tokens."""
        ended = []
        for result in results:
            _write(file, result.fields)
            self.progress.n_done += 1
            self.progress.n_errors += result.error is not None
            ended.append(Ended(result.number, result.error))
        self.progress.n_tokens += n_tokens
        return ended


class Batch(Files):
    """Answers the lines of a file at one desk, each as soon as its texts have ended: `run`. Raises as `Files`."""

    def __init__(self, desk: Desk, source: str | os.PathLike, target: str | os.PathLike):
        super().__init__(desk.reader.settings, source, target)
        self.desk, self._lines = desk, self.unanswered()

    def run(self) -> Iterator[list[Ended]]:
        """Answer the lines, and tell after each step which ones have ended; an interrupt loses what runs."""
        return self.keep(self._answer())

    def _answer(self):
        while (results := self.desk.advance(self._lines)) or not self.desk.is_idle:
            yield results, self.desk.count()


class _Answered:
    """Which lines a file of answers has: 8 bytes for each."""

    def __init__(self, path: Path, n_bytes: int):
        """n_bytes: of the input, which bounds the number of a line."""
        self._path, self._digests, self._end = path, array("Q"), 0
        self.n = self.n_errors = 0
        if path.exists():
            if not path.is_file():
                raise ValueError(f"the output must be a file: {path} is none")
            with open(path, "rb") as file:
                for place, text in enumerate(file, 1):
                    if not text.endswith(b"\n") and text[: len(_START)] == _START[: len(text)]:
                        break  # the process ended while it wrote
                    self._add(place, text, n_bytes)
                    self._end += len(text)

    def has(self, number: int) -> bool:
        return number <= len(self._digests) and self._digests[number - 1] != 0

    def check(self, number: int, digest: str) -> None:
        """Raises ValueError if the answer to a line has another digest."""
        if self._digests[number - 1] != _as_number(digest):
            raise ValueError(
                f"{self._path} has an answer to line {number} of another input, or of another model or other settings: "
                "name another output, or the model and the settings that it was made with"
            )

    def open(self) -> BinaryIO:
        """The file, to write behind its last whole line."""
        file = open(self._path, "r+b" if self._path.exists() else "wb")  # noqa: SIM115  the caller closes it
        file.truncate(self._end)
        file.seek(self._end)
        return file

    def _add(self, place, text, n_bytes):
        try:
            fields = json.loads(text)
            number, digest = fields["line"], _as_number(fields["input"])
            known = text.startswith(_START) and text.endswith(b"\n") and isinstance(number, int)
            known = known and 1 <= number <= n_bytes and digest < 1 << 64
        except (ValueError, TypeError, KeyError, RecursionError):
            known = False
        if not known:
            raise ValueError(f"{self._path}, line {place}: not an answer to this input: name another file for answers")
        self._digests.frombytes(bytes(8 * max(0, number - len(self._digests))))
        self.n += not self._digests[number - 1]
        self.n_errors += fields.get("error") is not None
        self._digests[number - 1] = digest


def _as_number(digest):
    return int(digest, 16) or 1  # 0 stands for no answer


def _read(path) -> Iterator[tuple[int, bytes]]:
    """(number, text) of the lines that are not empty; lines are counted from 1, empty ones too."""
    with open(path, "rb") as file:
        for number, text in enumerate(file, 1):
            text = (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip()
            if text:
                yield number, text


def _write(file, fields: dict[str, Any]) -> None:
    """Write a line, and give it to the system."""
    # A lone surrogate, which a name may have, is written as JSON's escape.
    file.write(json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    file.flush()
