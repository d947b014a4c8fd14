"""Clients of a server that speaks OpenAI's protocol: each sends its request when it is due, and reads the stream.

HTTP/1.1 over the standard library's streams, a connection for each request, so that the clients cost little beside the
server, which is measured on the same machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.parse
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfguide.bench.workload import Task

TIMEOUT = 60.0  # seconds in which a request must be answered
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}


class HttpError(RuntimeError):
    """The server answered with another status than 200, which `status` is then, or not in its protocol."""

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


@dataclass
class Outcome:
    """What became of a request: times in seconds since the start of the run, None for what did not happen.

    at: when it was due. sent: when it was. first, last: its first and its last token. n_new: the tokens that came.
    error: why it failed.
    """

    at: float
    sent: float
    first: float | None = None
    last: float | None = None
    n_new: int = 0
    error: str | None = None

    def token(self, when: float) -> None:
        """Note that a token came."""
        self.first, self.last = (when if self.first is None else self.first), when

    def count(self, n_new: int) -> None:
        """Note how many tokens came; 0 says nothing."""
        self.n_new = n_new or self.n_new

    def fail(self, error: str) -> None:
        """Note why the request failed."""
        self.error = error


def drive(url: str, tasks: Sequence[Task], more: Mapping[str, Any], timeout: float = TIMEOUT) -> list[Outcome]:
    """Send requests when they are due, whatever became of those before: the outcome of each.

    url: of the server, without a path. more: fields of each body, such as {"model": ..., "temperature": 0}. timeout:
    the seconds after which a request has failed.
    """
    return asyncio.run(_drive(url, tasks, more, timeout))


async def _drive(url, tasks, more, timeout):
    start = time.perf_counter() + 0.05  # after all clients stand ready
    return await asyncio.gather(*(_client(url, task, start, more, timeout) for task in tasks))


async def _client(url, task, start, more, timeout):
    await asyncio.sleep(max(0.0, start + task.at - time.perf_counter()))
    outcome = Outcome(task.at, time.perf_counter() - start)
    body = {"prompt": task.prompt, "max_tokens": task.n_new, **more}
    try:
        async with asyncio.timeout(timeout):
            await complete(url, body, outcome, start)
    except TimeoutError:
        outcome.fail(f"no answer within {timeout:g} s")
    except (OSError, HttpError, EOFError, ValueError) as error:
        outcome.fail(f"{type(error).__name__}: {error}")
    return outcome


async def complete(url: str, body: Mapping[str, Any], outcome: Outcome, start: float) -> None:
    """Stream a completion, and note in `outcome` when its tokens come.

    Tokens are counted by the server's usage, or, where it sends none, by the pieces of text. Raises HttpError for
    another status than 200, for an error in the stream, and for a stream that ends before its text does.
    """
    n_pieces, has_ended = 0, False
    async with contextlib.aclosing(stream(url, {**body, **_STREAM})) as events:
        async for event in events:
            if "error" in event:
                raise HttpError(f"an error in the stream: {json.dumps(event['error'])[:200]}")
            for choice in event.get("choices", ()):
                if choice.get("text"):
                    n_pieces += 1
                    outcome.token(time.perf_counter() - start)
                has_ended = has_ended or choice.get("finish_reason") is not None
            outcome.count((event.get("usage") or {}).get("completion_tokens", 0))
    if not has_ended:
        raise HttpError("the stream ended before its text did")
    if not outcome.n_new:
        outcome.count(n_pieces)
    if outcome.first is None:
        raise HttpError("the answer has no text")


async def ask(url: str, method: str = "GET", body: bytes = b"") -> Any:
    """What a whole URL answers, an object of JSON. Raises HttpError, OSError and ValueError."""
    reader, writer = await send(url, method, body)
    try:
        return json.loads(b"".join([part async for part in await _answer(reader)]))
    finally:
        writer.close()


async def stream(url: str, body: Mapping[str, Any]) -> AsyncIterator[dict]:
    """The objects of a completion that is streamed, until it says that it is done.

    url: of the server, without a path. Raises HttpError, OSError and ValueError.
    """
    reader, writer = await send(f"{url.rstrip('/')}/v1/completions", "POST", json.dumps(body).encode())
    try:
        rest = b""
        async for part in await _answer(reader):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                data = line.strip().removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data:
                    yield json.loads(data)
    finally:
        writer.close()


async def send(
    url: str, method: str, body: bytes, n_sent: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request to a whole URL: its connection. n_sent: the bytes of the body that are sent; default: all."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=1 << 20)
    head = (
        f"{method} {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body[:n_sent])
    await writer.drain()
    return reader, writer


async def _answer(reader):
    """The parts of the body of an answer. Raises HttpError for another status than 200."""
    status = (await reader.readline()).decode("latin-1").split(None, 2)
    if len(status) < 2 or not status[1].isdigit():
        raise HttpError("the server closed the connection" if not status else "not an answer in HTTP")
    headers = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    parts = _chunks(reader) if headers.get("transfer-encoding", "").lower() == "chunked" else _plain(reader, headers)
    if status[1] != "200":
        words = b"".join([part async for part in parts])[:200].decode("utf-8", "replace")
        raise HttpError(f"status {status[1]}: {words}", int(status[1]))
    return parts


async def _chunks(reader):
    while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readline()


async def _plain(reader, headers):
    left = int(headers.get("content-length", 1 << 62))
    while left and (part := await reader.read(min(left, 1 << 16))):
        left -= len(part)
        yield part
