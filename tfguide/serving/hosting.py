"""The life of what a server serves: it is loaded, it is ready, it stops, or it has failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tfguide.serving.engine import Engine
from tfguide.serving.errors import ApiError
from tfguide.serving.jobs import Courier
from tfguide.serving.orders import Clerk
from tfguide.serving.service import Service
from tfguide.text.spelling import Spelling
from tfguide.text.template import ChatTemplate

_ABOUT = {"loading": "the model is being loaded", "stopping": "the server stops", "failed": "the engine has failed"}


@dataclass(frozen=True)
class Loaded:
    """A model that is ready: its engine, its `tokenizers.Tokenizer`, and its template; None: it has no chats."""

    engine: Engine
    tokenizer: Any
    template: ChatTemplate | None = None


@dataclass(frozen=True)
class Served:
    """What there is once the model is loaded."""

    service: Service
    tokenizer: Any
    clerk: Clerk
    spelling: Spelling


class Host:
    """Loads a model in a thread and runs its engine in another one.

    load: returns the model; a thread calls it. stall: seconds without a sign of life after which the engine counts as
    dead. `failure`: why the model could not be loaded, or None.
    """

    def __init__(self, load: Callable[[], Loaded], stall: float):
        self._load, self._stall, self.failure = load, stall, None
        self._served: Served | None = None
        self._courier: Courier | None = None
        self._is_stopping = False

    @property
    def engine(self) -> Engine | None:
        """The engine, once it is there."""
        return None if self._served is None else self._served.service.engine

    @property
    def state(self) -> str:
        """loading, ready, stopping, or failed: the engine has ended, or was not seen for too long."""
        if self._is_stopping:
            return "stopping"
        if self.failure is not None:
            return "failed"
        if self._served is None:
            return "loading"
        return "ready" if self._served.service.is_alive(self._stall) else "failed"

    @property
    def served(self) -> Served:
        """What serves. Raises ApiError, 503, where nothing does."""
        state = self.state
        if state != "ready":
            raise ApiError(503, _ABOUT[state], None, state, retry_after=2 if state == "loading" else 5)
        return self._served

    def start(self) -> None:
        """Begin to load the model. Called in the event loop that will serve it."""
        self._courier = Courier(asyncio.get_running_loop())
        threading.Thread(target=self._prepare, name="tfguide load", daemon=True).start()

    async def drain(self, seconds: float) -> bool:
        """Take no more requests, and wait so long until those that run have ended; whether they have."""
        self._is_stopping = True
        return self._served is None or await asyncio.to_thread(self._served.service.drain, seconds)

    async def stop(self) -> None:
        """End the engine. What still runs ends with an error."""
        self._is_stopping = True
        if self._served is not None:
            await asyncio.to_thread(self._served.service.stop)

    def _prepare(self):
        try:
            loaded = self._load()
            engine, tokenizer = loaded.engine, loaded.tokenizer
            service = Service(engine, self._courier.deliver)
            clerk = Clerk(tokenizer, loaded.template, engine.config, engine.scheduler.max_length)
            service.start()
            self._served = Served(service, tokenizer, clerk, Spelling(tokenizer))
        except BaseException as error:  # whoever runs the host shows it
            self.failure = error
