"""The door of a server with many replicas: an application that hands every request to one of them.

Nothing here knows Ray. What the replicas answer is passed on as it comes; what this module adds is how an answer ends
whose replica has died, and how a server stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from tfguide.serving.errors import ApiError
from tfguide.serving.http import HANDLERS, Door, event, read_bytes, unless_gone
from tfguide.serving.metrics import CONTENT_TYPE, merged

ACCEPT_SECONDS = 30.0  # in which some replica must have taken a request
_LOST = ApiError(503, "the replica of this answer has ended: the answer is not complete", None, "replica_lost", 1)
_STOPPED = ApiError(503, "the server stops: the answer is not complete", None, "stopping", 5)
_NOBODY = ApiError(503, "no replica has taken the request", None, "loading", 5)
_FULL = ApiError(429, "as many requests wait for a replica as may", None, "overloaded", 5)
_ABOUT = {"loading": "no replica is ready", "stopping": "the server stops", "failed": "the replicas have failed"}
# What a replica needs to know of a request; the rest of a scope cannot leave the process.
_SCOPE = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client", "server")
_log = logging.getLogger(__name__)


class Full(Exception):
    """As many requests wait for a replica as may."""


class Replicas(Protocol):
    """Many copies of an application. failure: why they could not be started, or None."""

    failure: BaseException | None

    @property
    def state(self) -> str:
        """loading: none answers yet, or none any more; ready; or failed."""

    def start(self) -> None:
        """Begin to start them. Returns at once."""

    def ask(self, scope: dict[str, Any], body: bytes) -> AsyncGenerator[list[Message], None]:
        """The messages of a replica's answer, as ASGI has them: at first an empty list from the one that takes it.

        To close it ends the work. Raises Full, and whatever happens where the replica dies.
        """

    async def metrics(self) -> dict[str, str]:
        """The metrics of every replica, by its name."""

    def stop(self) -> None:
        """End them. Returns when they have ended."""


class Gate:
    """The life of a front, as `Host` is that of an application: which requests are open, and how they end."""

    def __init__(self, replicas: Replicas):
        self.replicas = replicas
        self.open: set[asyncio.Timeout] = set()  # what ends the wait of each request that a replica answers
        self.is_stopping = False

    @property
    def failure(self) -> BaseException | None:
        """Why the replicas could not be started, or None."""
        return self.replicas.failure

    @property
    def state(self) -> str:
        """loading, ready, stopping or failed."""
        return "stopping" if self.is_stopping else self.replicas.state

    def check(self) -> None:
        """Raises ApiError, 503, where no request is taken."""
        state = self.state
        if state != "ready":
            raise ApiError(503, _ABOUT[state], None, state, retry_after=2 if state == "loading" else 5)

    async def drain(self, seconds: float) -> bool:
        """Take no more requests, and wait so long until those that run have ended; whether they have."""
        self.is_stopping = True
        end = time.monotonic() + seconds
        while self.open and time.monotonic() < end:
            await asyncio.sleep(0.02)
        return not self.open

    async def stop(self) -> None:
        """End the replicas. What still runs ends with an error."""
        self.is_stopping = True
        for deadline in self.open:
            deadline.reschedule(asyncio.get_running_loop().time())
        await asyncio.to_thread(self.replicas.stop)


class Front:
    """An application of ASGI over replicas of another one. Its lifespan starts and stops them.

    api_key: what requests must bring; None: nothing. max_body: bytes of a request. Prefixes are shared within a replica
    only, and the requests of one chat may go to different ones. `/health` is that of the whole, and `/metrics` has the
    numbers of all, each with the label `replica`.
    """

    def __init__(self, replicas: Replicas, *, api_key: str | None = None, max_body: int = 4 << 20):
        self.host, self._max_body = Gate(replicas), max_body
        routes = [Route("/health", self._health), Route("/metrics", self._metrics), Mount("/", self._forward)]
        self._app = Door(Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=self._lifespan), api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as ASGI has it."""
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.host.replicas.start()
        yield
        await self.host.stop()

    async def _health(self, request: Request) -> Response:
        state = self.host.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    async def _metrics(self, request: Request) -> Response:
        self.host.check()
        return Response(merged(await self.host.replicas.metrics()), media_type=CONTENT_TYPE)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.host.check()
        body = await read_bytes(Request(scope, receive), self._max_body)
        self.host.check()
        await unless_gone(receive, self._pass_on(scope, body, send))

    async def _pass_on(self, scope: Scope, body: bytes, send: Send) -> None:
        """Give a request to a replica, and what it answers to the client. Raises ApiError if nothing was sent yet."""
        answer = self.host.replicas.ask({key: scope[key] for key in _SCOPE if key in scope}, body)
        headers = None
        deadline = asyncio.timeout(ACCEPT_SECONDS)
        self.host.open.add(deadline)
        try:
            async with deadline, contextlib.aclosing(answer):
                async for messages in answer:
                    if not messages and not self.host.is_stopping:
                        deadline.reschedule(None)
                    for message in messages:
                        if message["type"] == "http.response.start":
                            headers = dict(message["headers"])
                        await send(message)
            return
        except Full:
            error = _FULL
        except TimeoutError:
            error = _STOPPED if self.host.is_stopping else _NOBODY
        except Exception as found:
            _log.info("a replica was lost: %s", found)
            error = _LOST
        finally:
            self.host.open.discard(deadline)
        if headers is None:
            raise error
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            await send({"type": "http.response.body", "body": event(error.body), "more_body": False})
        # Otherwise the body stays shorter than its header says: the connection is closed, and the client sees it.
