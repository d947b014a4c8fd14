"""What a server of HTTP needs and Starlette does not have: bodies of a bounded size, and clients that go away."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tfguide.serving.errors import ApiError

BODY_SECONDS = 30.0  # in which a body must have come
LONGEST_ID = 128
T = TypeVar("T")


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request, JSON by its content type. Raises ApiError: 413 above `most` bytes, 408 if it is too slow.

    A browser asks before it sends JSON to a server of another origin: so no page elsewhere can use this one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(400, f"expected the header content-type: application/json, got {kind or 'none'}", None, "header")
    declared = request.headers.get("content-length", "0")
    parts, size = [], int(declared) if declared.isdecimal() else 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            if size <= most:
                size = 0
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > most:
                        break
    except TimeoutError:
        raise ApiError(408, f"the body did not come within {BODY_SECONDS:g} s") from None
    if size > most:
        raise ApiError(413, f"the body has more than the {most} bytes that it may have", None, "body_too_large")
    return b"".join(parts)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of some work; None if the client goes away before: the work is then cancelled."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events. at_end: called when they have ended or the client has gone away, whichever comes first."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], at_end: Callable[[], None]):
        self._events, self._at_end = events, at_end
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The response, as ASGI has it."""
        try:
            await unless_gone(receive, self._send(send))
        finally:
            self._at_end()
            await self._events.aclose()

    async def _send(self, send):
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def event(body: Any) -> bytes:
    """An object of JSON as an event."""
    return b"data: %b\n\n" % json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def refusal(error: ApiError) -> Response:
    """The response that says an error."""
    return JSONResponse(error.body, error.status, error.headers)


def has_key(scope: Scope, key: str) -> bool:
    """Whether a request brings the key, compared in constant time."""
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    kind, _, given = given.partition(b" ")
    return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), key.encode())


def with_header(send: Send, name: bytes, value: bytes) -> Send:
    """A function that sends what is sent, with one more header."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (name, value)]}
        await send(message)

    return wrapped
