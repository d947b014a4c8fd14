"""An engine in a thread of its own, to which other threads send requests."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tfguide.serving.engine import Engine, Update
from tfguide.serving.request import Finish, Request, Sequence


class Stopped(RuntimeError):
    """The service takes no more requests: it was told to stop, or its engine has failed."""


class Service:
    """Runs an engine in a thread, from `start` to `stop`.

    deliver: called in that thread after each step with its updates. It must be quick and must not raise; `client` of
    the updates' sequences says whose they are. Every sequence that was submitted gets an update with a `finish`, also
    when the engine fails: then all of them end with Finish.ERROR, `failure` is the exception, and no more are taken.

    Every method may be called by any thread.
    """

    def __init__(self, engine: Engine, deliver: Callable[[list[Update]], None]):
        self.engine, self._deliver = engine, deliver
        self.failure: BaseException | None = None
        self.beat = time.monotonic()  # when the thread was last seen alive
        self._inbox: deque[tuple[str, Any]] = deque()
        self._coming = 0  # sequences in the inbox
        self._changed = threading.Condition()
        self._is_draining = self._is_stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="tfguide engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, client: Any = None) -> list[Sequence]:
        """Let a request wait: its sequences, each with this `client`.

        Raises as `Engine.add`; Stopped if no more requests are taken.
        """
        sequences = self.engine.sequences(request, client)
        with self._changed:
            if self.failure is not None or self._is_draining:
                raise Stopped("the service takes no more requests")
            self.engine.scheduler.check_queue(len(sequences), self._coming)
            self._coming += len(sequences)
            self._inbox.append(("add", sequences))
            self._changed.notify()
        return sequences

    def abort(self, sequences: Iterable[Sequence]) -> None:
        """End sequences before their time, if they have not ended: within two steps their blocks are given back."""
        with self._changed:
            self._inbox.append(("abort", list(sequences)))
            self._changed.notify()

    def drain(self, seconds: float | None = None) -> bool:
        """Take no more requests and wait until all have ended, at most so long; whether they have."""
        with self._changed:
            self._is_draining = True
            self._changed.notify_all()
            done = lambda: self.failure is not None or (not self._inbox and self.engine.is_idle)  # noqa: E731
            return self._changed.wait_for(done, seconds)

    def stop(self, seconds: float = 0.0) -> None:
        """Let what runs end for so long, end the rest with Finish.ABORT, and end the thread."""
        self.drain(seconds)
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def is_alive(self, seconds: float = 30.0) -> bool:
        """Whether the engine works: its thread was seen within so many seconds."""
        thread = self._thread
        return (
            self.failure is None and thread is not None and thread.is_alive() and time.monotonic() - self.beat < seconds
        )

    def _run(self):
        try:
            while self._take_inbox():
                updates = self.engine.step()
                self.beat = time.monotonic()
                if updates:
                    self._deliver(updates)
        except BaseException as error:  # whatever it is, everybody who waits must hear of it
            self.failure = error
            self._end_all(Finish.ERROR, "the engine has failed")
            if not isinstance(error, Exception):
                raise

    def _take_inbox(self):
        """Do what others asked for, and wait while there is nothing to compute; False at the end."""
        ended = []
        with self._changed:
            while not self._inbox and self.engine.is_idle and not self._is_stopping:
                self._changed.notify_all()  # to those who wait until all have ended
                self.beat = time.monotonic()
                self._changed.wait(1.0)
            while self._inbox:
                what, sequences = self._inbox.popleft()
                if what == "add":
                    self._coming -= len(sequences)
                    self.engine.scheduler.enqueue(sequences)
                else:
                    for sequence in sequences:
                        if sequence.finish is None:
                            self.engine.abort(sequence)
                            ended.append(sequence)
            is_stopping = self._is_stopping
        if ended:
            self._deliver([Update(s, None, None, s.finish) for s in ended])
        if is_stopping:
            self._end_all(Finish.ABORT, None)
        return not is_stopping

    def _end_all(self, reason, error):
        """End all sequences, and tell whoever waits for them."""
        with self._changed:
            scheduler = self.engine.scheduler
            new = [s for what, sequences in self._inbox if what == "add" for s in sequences]
            left = [*scheduler.running, *scheduler.waiting]
            self._inbox.clear()
            self._coming = 0
            for sequence in left:
                scheduler.finish(sequence, reason, error)
            for sequence in new:
                sequence.end(reason, error)
            self._changed.notify_all()
        if left or new:
            self._deliver([Update(s, None, None, reason) for s in (*left, *new)])
