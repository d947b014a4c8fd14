"""What a server of HTTP needs and Starlette does not have: bodies of a bounded size, and clients that go away."""

from __future__ import annotations

import asyncio
import hmac
import json
import uuid
from collections.abc import AsyncGenerator, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tfguide.serving.errors import ApiError

BODY_SECONDS = 30.0  # in which a body must have come
LONGEST_ID = 128
OPEN = ("/", "/health")  # paths that need no key
INTERNAL = ApiError(500, "the server has failed at this request", None, "internal_error")
_ID = b"x-request-id"
_NO_KEY = ApiError(
    401, "expected the header authorization: Bearer KEY, with the key of this server", None, "invalid_api_key"
)
T = TypeVar("T")


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request, JSON by its content type. Raises ApiError, as `read_bytes`, and 400 for another type.

    A browser asks before it sends JSON to a server of another origin: so no page elsewhere can use this one.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(400, f"expected the header content-type: application/json, got {kind or 'none'}", None, "header")
    return await read_bytes(request, most)


async def read_bytes(request: Request, most: int) -> bytes:
    """The body of a request. Raises ApiError: 413 above `most` bytes, 408 if it is too slow."""
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


class Door:
    """An application behind a key, None: behind none. Every answer has an x-request-id: the client's, if it has one."""

    def __init__(self, app: ASGIApp, key: str | None):
        self._app, self._key = app, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as ASGI has it."""
        if scope["type"] == "http":
            given = next((value for name, value in scope["headers"] if name == _ID), b"")
            send = _with_id(send, given[:LONGEST_ID] or uuid.uuid4().hex.encode())
            if self._key is not None and scope["path"] not in OPEN and not _has_key(scope, self._key):
                await refusal(_NO_KEY)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _has_key(scope: Scope, key: str) -> bool:
    """Whether a request brings the key, compared in constant time."""
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    kind, _, given = given.partition(b" ")
    return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), key.encode())


def _with_id(send: Send, value: bytes) -> Send:
    """A function that sends what is sent, with an id if it has none."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and not any(name == _ID for name, _ in message["headers"]):
            message = {**message, "headers": [*message["headers"], (_ID, value)]}
        await send(message)

    return wrapped


async def refuse(request: Request, error: ApiError) -> Response:
    """The answer to a request that ends with an error."""
    return refusal(error)


async def refuse_http(request: Request, error: HTTPException) -> Response:
    """The answer to a request that leads nowhere."""
    known = {404: "there is nothing at this path", 405: f"this path does not take {request.method}"}
    return refusal(ApiError(error.status_code, known.get(error.status_code, error.detail)))


async def hang_up(request: Request, error: ClientDisconnect | None = None) -> Response:
    """The answer to a client that has gone away."""
    return Response(status_code=499)  # nobody reads it


async def fail(request: Request, error: Exception) -> Response:
    """The answer to a request at which something unforeseen has happened."""
    return refusal(INTERNAL)


HANDLERS = {ApiError: refuse, HTTPException: refuse_http, ClientDisconnect: hang_up, Exception: fail}
