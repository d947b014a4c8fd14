"""The scheduler without a model: it decides every step as in an engine, and a clock says how long each step takes."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tfguide.serving.request import Request, Sequence
from tfguide.serving.scheduler import Chunk, LastChunk, Scheduler

#: The seconds of a step by the tokens that it computes and the positions of the cache that it reads.
Clock = Callable[[int, int], float]


@dataclass(frozen=True)
class Arrival:
    """A text that comes at a time, in seconds, and wants `n_new` tokens behind its prompt of token ids."""

    at: float
    prompt: abc.Sequence[int]
    n_new: int


@dataclass(eq=False)
class Served:
    """What became of an arrival: when each of its tokens was there, in seconds."""

    at: float
    times: list[float] = field(default_factory=list)

    @property
    def ttft(self) -> float:
        """The seconds to the first token."""
        return self.times[0] - self.at

    @property
    def tpot(self) -> float | None:
        """The seconds of each further token on average; None where there is one token only."""
        return None if len(self.times) < 2 else (self.times[-1] - self.times[0]) / (len(self.times) - 1)

    @property
    def longest_gap(self) -> float:
        """The most seconds between two tokens; 0 where there is one only."""
        return max((b - a for a, b in zip(self.times, self.times[1:], strict=False)), default=0.0)


@dataclass(frozen=True)
class Step:
    """A step that is decided: from when to when it is computed, its chunks, and who has come so far, in that order."""

    begins: float
    ends: float
    chunks: list[Chunk]
    came: list[Sequence]

    @property
    def n_tokens(self) -> int:
        """The tokens that it computes."""
        return sum(chunk.end - chunk.start for chunk in self.chunks)


def steps(
    scheduler: Scheduler, arrivals: abc.Sequence[Arrival], clock: Clock, token: Callable[[Sequence], int] = lambda s: -1
) -> Iterator[Step]:
    """Each step until all have ended; arrivals come in the order of their times.

    A step is yielded when it is decided: the tables are those with which a model would compute it. It counts as
    computed when the next one is asked for. token: what a sequence gets after its last chunk; default: a token that no
    prompt has. Nobody is asked to wait outside: `Limits.waiting` must be large enough. Raises as `Scheduler.add`.
    """
    coming = sorted(arrivals, key=lambda one: one.at)
    came: list[Sequence] = []
    now = 0.0
    while len(came) < len(coming) or not scheduler.is_idle:
        if scheduler.is_idle:
            now = max(now, coming[len(came)].at)
        while len(came) < len(coming) and coming[len(came)].at <= now:
            one = coming[len(came)]
            request = Request(prompt=one.prompt, max_new_tokens=one.n_new)
            came.append(Sequence(request, 0, one.n_new, frozenset()))
            scheduler.add(came[-1:])
        chunks = scheduler.schedule()
        read = sum(chunk.end for chunk in chunks)
        ends = now + clock(sum(chunk.end - chunk.start for chunk in chunks), read)
        yield Step(now, ends, chunks, came)
        scheduler.advance(chunks, lambda chunk: token(chunk.sequence))
        now = ends


def simulate(scheduler: Scheduler, arrivals: abc.Sequence[Arrival], clock: Clock) -> list[Served]:
    """What becomes of arrivals under continuous batching, in the order of their times. Raises as `steps`."""
    found: dict[Sequence, Served] = {}
    at = sorted(one.at for one in arrivals)
    for step in steps(scheduler, arrivals, clock):
        for sequence, when in zip(step.came[len(found) :], at[len(found) :], strict=False):
            found[sequence] = Served(when)
        for chunk in step.chunks:
            if isinstance(chunk, LastChunk):
                found[chunk.sequence].times.append(step.ends)
    return list(found.values())


def simulate_static(rows: int, arrivals: abc.Sequence[Arrival], clock: Clock) -> list[Served]:
    """What becomes of arrivals in static batches, in the order of their times.

    A batch takes what has come, at most `rows` texts, pads the prompts to the longest, and goes on until the longest
    answer is written. Every row is computed until then.
    """
    coming = sorted(arrivals, key=lambda one: one.at)
    found: list[Served] = []
    now = 0.0
    while len(found) < len(coming):
        now = max(now, coming[len(found)].at)
        batch = [one for one in coming[len(found) : len(found) + rows] if one.at <= now]
        served = [Served(one.at) for one in batch]
        longest = max(len(one.prompt) for one in batch)
        for i in range(max(one.n_new for one in batch)):
            new = len(batch) if i else len(batch) * longest
            now += clock(new, len(batch) * (longest + i))
            for one, result in zip(batch, served, strict=True):
                if i < one.n_new:
                    result.times.append(now)
        found += served
    return found
