"""The application of `tfguide serve`: an engine behind OpenAI's interface, as any server of ASGI runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tfguide.checks.values import check_count, check_number
from tfguide.serving import protocol
from tfguide.serving.errors import ApiError
from tfguide.serving.hosting import Host, Loaded, Served
from tfguide.serving.http import (
    HANDLERS,
    INTERNAL,
    LONGEST_ID,
    Door,
    EventStream,
    event,
    hang_up,
    read_body,
    unless_gone,
)
from tfguide.serving.jobs import Job
from tfguide.serving.metrics import CONTENT_TYPE, Metrics
from tfguide.serving.orders import Order
from tfguide.serving.replies import Chats, Completions, Reply, Shape
from tfguide.serving.writing import Writer

PING_SECONDS = 15.0  # after which a stream without news gets a comment, so that nobody between takes it for dead
# The page has its script and its style in itself, and talks to this server alone.
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache",
}  # fmt: skip
_log = logging.getLogger(__name__)
B = TypeVar("B", bound=protocol.Body)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an application behaves.

    name: of the model, for clients. api_key: what requests must bring; None: nothing. max_body: bytes of a request.
    stall: seconds without a sign of life after which the engine counts as dead.
    """

    name: str = "model"
    api_key: str | None = None
    max_body: int = 4 << 20
    stall: float = 60.0

    def __post_init__(self):
        check_count("max_body", self.max_body)
        check_number("stall", self.stall, above=0)
        if not self.name:
            raise ValueError("name must have a character, got an empty one")
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key must have a character, got an empty one")


def create_app(load: Callable[[], Loaded], **settings: Any) -> Application:
    """The application for a model that `load` returns, which a thread calls when the server starts.

    Until then, requests are answered by 503. settings: the fields of `Settings`. Raises as they do.
    """
    return Application(load, Settings(**settings))


class Application:
    """An application of ASGI, see `create_app`. Its lifespan starts and stops its `host`, which has the model."""

    def __init__(self, load: Callable[[], Loaded], settings: Settings):
        self.settings, self.host, self._created = settings, Host(load, settings.stall), int(time.time())
        self.metrics = Metrics(lambda: self.host.engine)
        self._page = resources.files("tfguide.serving").joinpath("chat.html").read_text("utf-8")
        routes = [
            Route("/", self._show_page), Route("/health", self._health), Route("/metrics", self._show_metrics),
            Route("/v1/models", self._list_models), Route("/v1/models/{name:path}", self._show_model),
            Route("/v1/completions", self._complete, methods=["POST"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/detokenize", self._detokenize, methods=["POST"]),
        ]  # fmt: skip
        app = Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=self._lifespan)
        self._app = Door(app, settings.api_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, as ASGI has it."""
        await self._app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.host.start()
        yield
        await self.host.stop()

    async def _read(self, request: Request, kind: type[B]) -> tuple[Served, B]:
        """What serves, and the body of a request."""
        served = self.host.served
        body = protocol.read(kind, await read_body(request, self.settings.max_body))
        if body.model not in (None, self.settings.name):
            raise _no_model(body.model)
        return served, body

    async def _complete(self, request: Request) -> Response:
        served, body = await self._read(request, protocol.Completion)
        return await self._answer(request, served, body, served.clerk.completion, Completions)

    async def _chat(self, request: Request) -> Response:
        served, body = await self._read(request, protocol.Chat)
        return await self._answer(request, served, body, served.clerk.chat, Chats)

    async def _answer(
        self, request: Request, served: Served, body: B, take: Callable[[B], Order], shape: Shape
    ) -> Response:
        start = time.monotonic()
        order = await asyncio.to_thread(take, body)  # a long prompt takes a while, and others go on
        job = Job(served.service, order, served.tokenizer, self.metrics, start)
        reply = Reply(shape, f"{shape.prefix}-{uuid.uuid4().hex}", int(time.time()), self.settings.name)
        writer = Writer(job, reply, served.spelling)
        if body.stream:
            return EventStream(_events(job, writer, body.stream_options.include_usage), job.abort)
        try:
            whole = await unless_gone(request.receive, writer.whole())
        finally:
            job.abort()  # what has not ended
        return await hang_up(request) if whole is None else JSONResponse(whole)

    async def _tokenize(self, request: Request) -> Response:
        served, body = await self._read(request, protocol.Tokenize)
        clerk = served.clerk
        if body.prompt is None:
            tokens = await asyncio.to_thread(clerk.encode_chat, body)
        else:
            tokens = await asyncio.to_thread(clerk.encode, body.prompt, body.add_special_tokens)
        return JSONResponse({"count": len(tokens), "max_model_len": clerk.max_length, "tokens": tokens})

    async def _detokenize(self, request: Request) -> Response:
        served, body = await self._read(request, protocol.Detokenize)
        return JSONResponse({"prompt": served.clerk.decode(body.tokens)})

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model(self.host.served)]})

    async def _show_model(self, request: Request) -> Response:
        served, name = self.host.served, request.path_params["name"]
        if name != self.settings.name:
            raise _no_model(name)
        return JSONResponse(self._model(served))

    def _model(self, served):
        return {
            "id": self.settings.name, "object": "model", "created": self._created, "owned_by": "tfguide",
            "root": self.settings.name, "max_model_len": served.clerk.max_length,
        }  # fmt: skip

    async def _health(self, request: Request) -> Response:
        state = self.host.state
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers=_PAGE_HEADERS)


async def _events(job: Job, writer: Writer, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """The events of a stream. An error is the last one; otherwise the last one says that all is done."""
    try:
        while not job.is_done:
            pieces = await job.pieces(PING_SECONDS)
            data = b"".join(map(event, writer.chunks(pieces)))
            if data or not pieces:
                yield data or b": still at work\n\n"
        if include_usage:
            yield event(writer.last())
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield event(error.body)
    except Exception:
        _log.exception("a stream has failed")
        yield event(INTERNAL.body)


def _no_model(name):
    return ApiError(
        404, f"there is no model {name[:LONGEST_ID]!r}: /v1/models says what there is", "model", "model_not_found"
    )
