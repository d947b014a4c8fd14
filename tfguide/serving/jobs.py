"""Requests on their way between the engine's thread and the event loop of a server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tfguide.serving.answer import Answer, Piece
from tfguide.serving.engine import Update
from tfguide.serving.errors import ApiError
from tfguide.serving.metrics import Metrics
from tfguide.serving.orders import Order
from tfguide.serving.replies import Usage
from tfguide.serving.request import Finish, Likely, Request, Sequence
from tfguide.serving.scheduler import QueueFull
from tfguide.serving.service import Service, Stopped


class Courier:
    """Takes the updates of each step from the engine's thread to the event loop, all of them in one call."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop

    def deliver(self, updates: list[Update]) -> None:
        """Called by the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_distribute, updates)


def _distribute(updates):
    now = time.monotonic()
    for update in updates:
        update.sequence.client.take(update, now)


# Why a sequence may end that nobody has broken off.
_BROKEN = {
    Finish.ABORT: ApiError(503, "the server stops: the answer is not complete", None, "stopping", retry_after=5),
    Finish.ERROR: ApiError(500, "the engine could not complete the answer", None, "engine_error"),
}


@dataclass(eq=False)
class Choice:
    """One text of an answer. last: when its last token came; before the first one, when the request came."""

    index: int
    answer: Answer
    last: float

    @property
    def prompt_likely(self) -> list[tuple[int, Likely | None]]:
        """The tokens of the prompt and their log probabilities, which the first one does not have."""
        sequence = self.answer.sequence
        return list(zip(sequence.request.prompt, [None, *sequence.prompt_likely], strict=True))

    def count(self, now: float, metrics: Metrics) -> None:
        """Count a token that has come."""
        metrics.token(self.answer.sequence, now, self.last, is_first=self.answer.n_tokens == 1)
        self.last = now


class Job:
    """The sequences of an order, from their submission to their end. Used by the event loop's thread alone.

    start: when the request came. Raises ApiError, and leaves nothing behind, if the service does not take all of it.
    """

    def __init__(self, service: Service, order: Order, tokenizer: Any, metrics: Metrics, start: float):
        self.order, self._service, self._metrics, self._start = order, service, metrics, start
        self._choices: dict[Sequence, Choice] = {}
        self._pieces: list[tuple[Choice, Piece]] = []
        self._has_pieces = asyncio.Event()
        self._check_size(service)
        try:
            for request in order.requests:
                for sequence in self._submit(request):
                    answer = Answer(tokenizer, sequence, order.stop)
                    self._choices[sequence] = Choice(len(self._choices), answer, start)
        except BaseException:
            self.abort()
            raise
        self._n_open = len(self._choices)

    @property
    def choices(self) -> Iterable[Choice]:
        """The choices, in order."""
        return self._choices.values()

    @property
    def is_done(self) -> bool:
        """Whether all choices have ended, and all of their pieces were taken."""
        return not self._n_open and not self._pieces

    @property
    def usage(self) -> Usage:
        """The tokens so far."""
        n = self.order.requests[0].n
        firsts = [choice.answer.sequence for choice in list(self.choices)[::n]]
        new = 0 if self.order.only_echo else sum(choice.answer.n_tokens for choice in self.choices)
        return Usage(sum(s.n_prompt for s in firsts), sum(s.n_shared or 0 for s in firsts), new)

    def take(self, update: Update, now: float) -> None:
        """What the engine did to one of the sequences."""
        choice = self._choices[update.sequence]
        piece = choice.answer.take(update)
        if piece is None:  # behind the end: the engine goes on for a step or two after a stop string
            return
        if piece.token is not None:
            choice.count(now, self._metrics)
        if piece.finish is not None:
            self._n_open -= 1
            self._metrics.end(piece.finish, now, self._start)
        if choice.answer.is_cut:
            self._service.abort([update.sequence])
        self._pieces.append((choice, piece))
        self._has_pieces.set()

    async def pieces(self, seconds: float | None = None) -> list[tuple[Choice, Piece]]:
        """All that has come since the last call; waits for something, at most so long.

        Raises ApiError if the engine could not end a sequence: 503 where it was told to stop, else 500.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_pieces.wait()
        found, self._pieces = self._pieces, []
        self._has_pieces.clear()
        broken = next((i for i, (_, piece) in enumerate(found) if piece.finish in _BROKEN), None)
        if broken is None:
            return found
        if broken:  # what came before it is the client's
            self._pieces = found[broken:]
            self._has_pieces.set()
            return found[:broken]
        raise _BROKEN[found[0][1].finish]

    def abort(self) -> None:
        """End what has not ended: nobody wants it any more."""
        left = [s for s, choice in self._choices.items() if choice.answer.finish is None]
        if left:
            self._service.abort(left)

    def _check_size(self, service):
        n, most = sum(request.n for request in self.order.requests), service.engine.scheduler.limits.waiting
        if n > most:
            raise ApiError(400, f"the request has {n} choices, of which {most} may wait", "n")

    def _submit(self, request: Request) -> list[Sequence]:
        try:
            return self._service.submit(request, self)
        except QueueFull as error:
            raise ApiError(429, str(error), None, "overloaded", self._metrics.retry_after()) from None
        except Stopped as error:
            raise ApiError(503, str(error), None, "stopping", retry_after=5) from None
        except (TypeError, ValueError) as error:
            raise ApiError(400, str(error), None, "invalid_value") from None
