"""Runs an application on a socket with uvicorn, and stops it without breaking off what can be finished."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import uvicorn

from tfguide.serving.front import Front
from tfguide.serving.server import Application

LAST_WORDS = 3  # seconds for the end of the streams after the engine has stopped


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises OSError that names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error


def address(listening: socket.socket) -> str:
    """The address of a listening socket for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server for one application.

    grace: after the first SIGTERM or SIGINT, what runs has so many seconds to end; new requests are refused. Then the
    rest ends with an error, and the server. A second signal ends it at once. on_ready: called once the model is loaded.
    """

    def __init__(
        self, app: Application | Front, grace: float = 30.0, on_ready: Callable[[], None] | None = None,
        access_log: bool = False,
    ):  # fmt: skip
        level = "info" if access_log else "warning"
        super().__init__(
            uvicorn.Config(
                app, log_level=level, access_log=access_log, lifespan="on", ws="none", server_header=False,
                timeout_graceful_shutdown=LAST_WORDS,
            )
        )  # fmt: skip
        self._application, self._grace, self._on_ready = app, grace, on_ready

    def handle_exit(self, sig: int, frame: object) -> None:
        """A signal came."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Look, some times a second, whether there is something to do; whether the server is to end."""
        host = self._application.host
        if host.failure is not None:
            return True
        if self._on_ready is not None and host.state == "ready":
            self._on_ready()
            self._on_ready = None
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what runs, answering who comes meanwhile that the server stops; then close everything."""
        end = time.monotonic() + self._grace
        while not await self._application.host.drain(0.1) and time.monotonic() < end and not self.force_exit:
            pass
        await self._application.host.stop()
        await super().shutdown(sockets)
