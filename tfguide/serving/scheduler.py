"""Which tokens the next step computes: continuous batching with one budget of tokens, and preemption."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from tfguide.checks.values import check_count
from tfguide.serving.blocks import BlockPool, OutOfBlocks
from tfguide.serving.request import Finish, Sequence

TOKENS = 128  # of a step at most, unless it has more rows


class QueueFull(RuntimeError):
    """As many sequences wait as may: try again later."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The sizes of a scheduler.

    length: the most positions of a text. rows: the most texts that run at once. tokens: the most that a step computes,
    at least `rows`: a long prompt is computed in parts, and holds nobody for longer than that takes. waiting: the most
    sequences that wait.
    """

    length: int
    rows: int = 64
    tokens: int = TOKENS
    waiting: int = 1024

    def __post_init__(self):
        for name in ("length", "rows", "tokens", "waiting"):
            check_count(name, getattr(self, name))
        if self.tokens < self.rows:
            raise ValueError(f"a step must have a token for each of {self.rows} rows, got tokens={self.tokens}")


@dataclass(slots=True)
class Chunk:
    """Tokens of a sequence that a step computes, from `start` to `end`. More of them follow: nothing is chosen."""

    sequence: Sequence
    start: int
    end: int


class LastChunk(Chunk):
    """A chunk with the last token of its sequence: the next one is chosen from its logits."""

    __slots__ = ()


class Scheduler:
    """Decides what each step computes, and which sequences have the blocks of the cache.

    Sequences are served by priority, then in the order of their arrival. In a step every running sequence first gets
    its next token; what is left of the budget goes to prompts, in parts. A waiting sequence begins as soon as there are
    a row and blocks for all of its tokens. If a running one needs a block and there is none, the last of the running
    ones gives up its blocks and waits again; later its tokens are computed again, as far as they are not in the cache.

    A step is `schedule`, then, once the model has read the chunks, `advance`. Between steps `add` and `abort` are
    allowed. No sequence is taken that the cache could not hold alone, so that one always goes on.
    """

    def __init__(self, pool: BlockPool, limits: Limits, share_prefixes: bool = True):
        self.pool, self.limits, self.share_prefixes = pool, limits, share_prefixes
        self.waiting: list[Sequence] = []  # by rank
        self.running: list[Sequence] = []  # by rank
        self._rows = list(range(limits.rows - 1, -1, -1))  # the lowest is taken first
        self.n_preempted = 0

    @property
    def max_length(self) -> int:
        """The most positions of a text: of a row, and of the whole cache."""
        return min(self.limits.length, self.pool.n_blocks * self.pool.block_size)

    @property
    def is_idle(self) -> bool:
        """Whether no sequence waits or runs."""
        return not self.waiting and not self.running

    def check_queue(self, n: int, coming: int = 0) -> None:
        """Raises QueueFull if `n` more sequences may not wait, behind `coming` that are on their way."""
        if len(self.waiting) + coming + n > self.limits.waiting:
            raise QueueFull(f"{len(self.waiting) + coming} sequences wait, {self.limits.waiting} may: try again later")

    def add(self, sequences: Tokens[Sequence]) -> None:
        """Let sequences wait, all or none of them.

        Raises QueueFull, and ValueError for a sequence that the cache cannot hold.
        """
        for sequence in sequences:
            if sequence.n_prompt + sequence.max_new_tokens - 1 > self.max_length:
                raise ValueError(
                    f"a text may have {self.max_length} positions, got a prompt of {sequence.n_prompt} tokens and "
                    f"{sequence.max_new_tokens} more"
                )
        self.check_queue(len(sequences))
        self.enqueue(sequences)

    def enqueue(self, sequences: Tokens[Sequence]) -> None:
        """Let sequences wait that were checked when they came: others may have been preempted since, and wait too."""
        for sequence in sequences:
            bisect.insort(self.waiting, sequence, key=_rank)

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, those of one token first; none if there is nothing to do."""
        left, chunks = self.limits.tokens, {}
        for sequence in [s for s in self.running if len(s.tokens) - s.n_computed == 1]:
            if sequence.row is not None and self._make_room(sequence, chunks):
                chunks[sequence] = _chunk(sequence, left)
                left -= 1
        for sequence in [s for s in self.running if len(s.tokens) - s.n_computed > 1]:
            if left:
                chunks[sequence] = _chunk(sequence, left)
                left -= chunks[sequence].end - chunks[sequence].start
        for sequence in self._startable() if left and self._rows else ():
            if not self._start(sequence):
                break
            chunks[sequence] = _chunk(sequence, left)
            left -= chunks[sequence].end - chunks[sequence].start
            if not left or not self._rows:
                break
        return list(chunks.values())

    def advance(self, chunks: Tokens[Chunk], choose: Callable[[LastChunk], int | None]) -> None:
        """Count the chunks of a step as computed, and add the next token of each sequence whose last chunk was there.

        choose: the next token of a chunk's sequence; None, if it has no next one: see `finish`.
        """
        size = self.pool.block_size
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.count(chunk.end)
            if chunk.end // size > len(sequence.table.contents):
                self.pool.publish(sequence.table, sequence.tokens, chunk.end)
            if isinstance(chunk, LastChunk):
                token = choose(chunk)
                if token is None:
                    continue
                sequence.tokens.append(token)
                if token in sequence.stop_tokens:
                    self._end(sequence, Finish.STOP)
                elif len(sequence.tokens) - sequence.n_prompt >= sequence.max_new_tokens:
                    self._end(sequence, Finish.LENGTH)

    def finish(self, sequence: Sequence, reason: Finish = Finish.ABORT, error: str | None = None) -> None:
        """End a sequence in whatever state it is; one that has ended stays as it is."""
        if sequence.finish is None:
            self._end(sequence, reason, error)

    def _startable(self) -> Iterator[Sequence]:
        """The waiting sequences that do not wait for another one to compute the same prompt."""
        for sequence in list(self.waiting):
            leader = sequence.leader
            if leader is None or leader.finish is not None or leader.n_new:
                yield sequence

    def _start(self, sequence):
        """Give a waiting sequence a row and blocks for all its tokens; False if there are too few."""
        pool, table = self.pool, sequence.table
        may_share = self.share_prefixes and _may_share(sequence)
        shared = pool.share_prefix(table, sequence.tokens) if may_share else 0
        try:
            pool.grow(table, len(sequence.tokens))
        except OutOfBlocks:
            pool.release(table)
            return False
        sequence.start(self._rows.pop(), shared)
        self.waiting.remove(sequence)
        bisect.insort(self.running, sequence, key=_rank)
        return True

    def _make_room(self, sequence, chunks):
        """Blocks for the next token of a running sequence; False if it had to give up its own."""
        table = sequence.table
        while len(table.blocks) * self.pool.block_size < len(sequence.tokens):
            try:
                self.pool.grow(table, len(sequence.tokens))
            except OutOfBlocks:
                last = self.running[-1]
                chunks.pop(last, None)
                self._preempt(last)
                if last is sequence:
                    return False
        return True

    def _preempt(self, sequence):
        self.pool.release(sequence.table)
        self._rows.append(sequence.give_way())
        self.n_preempted += 1
        self.running.remove(sequence)
        bisect.insort(self.waiting, sequence, key=_rank)

    def _end(self, sequence, reason, error=None):
        row = sequence.end(reason, error)
        if row is None:
            self.waiting.remove(sequence)
            return
        self.pool.release(sequence.table)
        self._rows.append(row)
        self.running.remove(sequence)


def _rank(sequence):
    return sequence.rank


def _may_share(sequence):
    """Whether blocks may come from others: not while the log probabilities of the prompt are still to be computed."""
    return sequence.request.prompt_logprobs is None or len(sequence.prompt_likely) >= sequence.n_prompt - 1


def _chunk(sequence, most):
    end = min(len(sequence.tokens), sequence.n_computed + most)
    return (LastChunk if end == len(sequence.tokens) else Chunk)(sequence, sequence.n_computed, end)
