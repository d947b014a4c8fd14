"""A batch on a Ray cluster: actors with an engine each share the lines of a file.

Ray Data's `map_batches` with a pool of actors is not used. It gives whole blocks to an actor and whole blocks back: the
answers of a block would be written when its slowest line has ended, the engine would run empty at the end of each
block, and a block whose actor has died would be computed from its beginning. Its readers know no numbers of lines
either. Here each actor holds some lines, takes new ones as others end, and every answer is written as it comes.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from tfguide.serving.batch import Ended, Files
from tfguide.serving.cluster import Share
from tfguide.serving.desk import Desk, Result
from tfguide.serving.lines import Settings

SECONDS = 0.5  # of work between two reports of an actor
TRIES = 3  # actors that may die, one after the other, while nothing ends


class Worker:
    """The actor: a desk, which is made at the first call, and the lines that it has not begun."""

    def __init__(self, make: Callable[[], Desk], share: Share):
        self._make, self._share = make, share
        self._desk: Desk | None = None
        self._lines: deque[tuple[int, bytes]] = deque()

    def work(self, lines: list[tuple[int, bytes]]) -> tuple[list[Result], int]:
        """Take lines, and work for a while: what has ended, and the number of new tokens."""
        if self._desk is None:
            self._share.take()
            self._desk = self._make()
        self._lines.extend(lines)
        done, end = [], time.monotonic() + SECONDS
        while (self._lines or not self._desk.is_idle) and time.monotonic() < end:
            done += self._desk.advance(self._taken())
        return done, self._desk.count()

    def _taken(self):
        while self._lines:
            yield self._lines.popleft()


class Crew(Files):
    """Answers the lines of a file with many engines, each line as soon as its texts have ended: `run`.

    make: makes the desk of an actor, in its process. n: how many actors. share: what each gets. rows: the texts that
    one writes at once; it holds four times as many lines. An actor that dies is replaced, and the lines that it held
    are answered by others: no answer is lost and none is written twice.

    Raises as `Files`. `run` raises what `make` or an engine raises, and RuntimeError where actors die and nothing ends.
    """

    def __init__(
        self, make: Callable[[], Desk], settings: Settings, source: str | os.PathLike, target: str | os.PathLike,
        n: int, share: Share, rows: int,
    ):  # fmt: skip
        super().__init__(settings, source, target)
        self._lines, self._again = self.unanswered(), deque[tuple[int, bytes]]()
        self._n, self._most = n, 4 * rows
        self._hire = lambda: ray.remote(Worker).options(num_cpus=share.cpus).remote(make, share)
        self._held: dict[Any, dict[int, bytes]] = {}  # of each actor

    def run(self) -> Iterator[list[Ended]]:
        """Answer the lines, and tell after each report which ones have ended; an interrupt loses what runs."""
        return self.keep(self._answer())

    def _answer(self):
        """(results, new tokens) of each report."""
        calls: dict[Any, Any] = {}
        n_lost = 0
        try:
            if self._look():
                for _ in range(self._n):
                    self._call(calls, self._hire(), [])  # lines are given to those that have come
            while self._look() or any(self._held.values()):
                (call,), _ = ray.wait(list(calls), num_returns=1)
                worker = calls.pop(call)
                try:
                    results, n_tokens = ray.get(call)
                except RayTaskError as error:
                    raise error.cause or error from None
                except RayActorError as error:
                    n_lost += 1
                    if n_lost > TRIES:
                        raise RuntimeError(f"{n_lost} replicas have died and nothing was answered") from error
                    self._again.extend(self._held.pop(worker).items())
                    self._call(calls, self._hire(), [])
                    continue
                held = self._held[worker]
                for result in results:
                    del held[result.number]
                    n_lost = 0
                lines = list(itertools.islice(self._coming(), self._most - len(held)))
                held.update(lines)
                if held:
                    self._call(calls, worker, lines)
                else:  # nothing is left for it
                    del self._held[worker]
                    ray.kill(worker)
                yield results, n_tokens
        finally:
            for worker in self._held:
                ray.kill(worker)

    def _call(self, calls, worker, lines):
        self._held.setdefault(worker, {})
        calls[worker.work.remote(lines)] = worker

    def _look(self):
        """Whether there is a line that no actor has."""
        if not self._again:
            self._again.extend(itertools.islice(self._lines, 1))
        return bool(self._again)

    def _coming(self):
        """The lines that no actor has."""
        while self._look():
            yield self._again.popleft()
