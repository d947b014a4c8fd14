"""The contestants of `tfguide bench serve` that speak HTTP: this package's server, llama-cpp-python's, or any other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfguide.bench.clients import TIMEOUT, HttpError, ask, drive
from tfguide.bench.workload import Task
from tfguide.native import cores

READY = 180.0  # seconds in which a server must answer
WARM_UP = "Requests that do not count: the first one of a server may compile, and read the file of the model."
NEVER = -100.0  # what is added to the logit of a token that is not to be chosen


@dataclass(frozen=True)
class Remote:
    """A server that runs already. more: fields of each body, beside the prompt and the number of tokens."""

    name: str
    url: str
    more: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT

    @contextlib.contextmanager
    def start(self) -> Iterator[Any]:
        """Wait until the server answers a request, behind those that it may still have, then give what drives it.

        Raises RuntimeError if it does not within READY seconds.
        """
        with _ready(self.url, self.more, self.timeout, lambda: "") as running:
            yield running


@dataclass(frozen=True)
class Launched:
    """A server that is started for each run. command: its words, where "{port}" stands for a free port."""

    name: str
    command: Sequence[str]
    more: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT
    environment: Mapping[str, str] = field(default_factory=dict)

    @contextlib.contextmanager
    def start(self) -> Iterator[Any]:
        """Start the server, wait until it answers, give what drives it, and stop the server at the end.

        Raises RuntimeError, with the last lines that the server wrote, if it ends or does not answer within READY
        seconds.
        """
        port = _free_port()
        command = [word.replace("{port}", str(port)) for word in self.command]
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ) | dict(self.environment))

            def why():
                """Why the server cannot be used, once its process has ended."""
                ended = process.poll() is not None
                return f"the server ended with status {process.returncode}: {_tail(log)}" if ended else ""

            try:
                with _ready(f"http://127.0.0.1:{port}", self.more, self.timeout, why) as running:
                    yield running
            finally:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def our_server(path: Path, words: Sequence[str] = ()) -> Launched:
    """`tfguide serve` of a model file. words: further options of the command."""
    command = [sys.executable, "-m", "tfguide", "serve", "--checkpoint", str(path), "--port", "{port}", *words]
    return Launched("tfguide", command, {"temperature": 0, "ignore_eos": True})


def llama_server(path: Path, python: str, ends: Sequence[int], context: int = 2048) -> Launched:
    """The server of llama-cpp-python of a GGUF file. python: an interpreter that has `llama-cpp-python[server]`.

    It answers one request at a time, the others wait. ends: the tokens with which the model ends a text; the server has
    no `ignore_eos`, so they are made unlikely. context: the most positions of a text.
    """
    command = [
        python, "-m", "llama_cpp.server", "--model", str(path), "--host", "127.0.0.1", "--port", "{port}",
        "--n_ctx", str(context), "--n_threads", str(cores()), "--n_threads_batch", str(cores()),
        "--interrupt_requests", "false", "--verbose", "false",
    ]  # fmt: skip
    return Launched("llama.cpp", command, {"temperature": 0, "logit_bias": {str(token): NEVER for token in ends}})


def llama_version(python: str) -> str:
    """The version of the llama-cpp-python that an interpreter has. Raises RuntimeError where it has none."""
    code = "from importlib.metadata import version; print(version('llama-cpp-python'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{python} has no llama-cpp-python: pip install 'llama-cpp-python[server]'")
    return done.stdout.strip()


@contextlib.contextmanager
def _ready(url, more, timeout, why):
    """Wait until the server has answered a request that does not count, then give what drives it."""
    end = time.monotonic() + READY
    body: dict[str, Any] = {}
    while True:  # it is not there yet, or still loading
        try:
            model = asyncio.run(ask(f"{url.rstrip('/')}/v1/models"))["data"][0]["id"]
            body = {"model": model, **more}
            (first,) = drive(url, [Task(0.0, WARM_UP, 0, 8)], body, READY)
            error = first.error
        except (OSError, HttpError, EOFError) as failure:
            error = f"{url} does not answer: {failure}"
        if error is None:
            break
        if why() or time.monotonic() > end:
            raise RuntimeError(why() or error)
        time.sleep(0.1)
    yield lambda tasks: drive(url, tasks, body, timeout)


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _tail(log):
    log.seek(0)
    return " ".join(log.read()[-600:].decode("utf-8", "replace").split())
