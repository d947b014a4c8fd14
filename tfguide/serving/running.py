"""Runs an application on a socket with uvicorn, and stops it without breaking off what can be finished."""

from __future__ import annotations

import contextlib
import logging
import logging.config
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.logging import AccessFormatter

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
    """A server for one application. The logging of the process stays as it is.

    grace: after the first SIGTERM or SIGINT, what runs has so many seconds to end; new requests are refused. Then the
    rest ends with an error, and the server. A second signal ends it at once. on_ready: called once the model is loaded.
    access_log: whether a line for each request is printed on stdout.
    """

    def __init__(
        self, app: Application | Front, grace: float = 30.0, on_ready: Callable[[], None] | None = None,
        access_log: bool = False,
    ):  # fmt: skip
        # With its own `log_config`, uvicorn closes every handler of the process, and with them files of others.
        super().__init__(
            uvicorn.Config(
                app, log_config=None, log_level="info" if access_log else "warning", access_log=access_log,
                lifespan="on", ws="none", server_header=False, timeout_graceful_shutdown=LAST_WORDS,
            )
        )  # fmt: skip
        if access_log:
            _print_requests()
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


@contextlib.contextmanager
def in_thread(app: Application | Front, **settings: Any) -> Iterator[str]:
    """Serve from a thread, on a free port of this machine: the address, once the model is loaded.

    settings: of `Server`. The server ends with the block. Raises what the model's loading raises, and RuntimeError
    where the server ends before.
    """
    with listen("127.0.0.1", 0) as listening:
        server = Server(app, **settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while thread.is_alive() and (app.host.state == "loading" or not server.started):
                time.sleep(0.01)
            if app.host.failure is not None:
                raise app.host.failure
            if not thread.is_alive():
                raise RuntimeError("the server ended before it was ready")
            yield address(listening)
        finally:
            server.handle_exit(signal.SIGTERM, None)
            thread.join()


class _Printed(logging.Handler):
    """Prints each line on what is stdout at that time."""

    def emit(self, record):
        try:
            print(self.format(record), flush=True)
        except OSError:
            self.handleError(record)


def _print_requests():
    """Print the lines of uvicorn's access log, unless the process has handlers for them, and none of them twice."""
    logger = logging.getLogger("uvicorn.access")
    if not logger.handlers:
        handler = _Printed()
        handler.setFormatter(AccessFormatter('%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'))
        logger.addHandler(handler)
    logging.config.dictConfig({"version": 1, "incremental": True, "loggers": {"uvicorn.access": {"propagate": False}}})
