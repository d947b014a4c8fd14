"""Replicas of a server on a Ray cluster, which Ray Serve starts, watches and replaces.

A replica is an actor with an engine, its cache and the application of `tfguide serve`. Its prefixes are its own. Ray
Serve chooses a replica for each request: of two at random the one with fewer requests. The requests of one chat may
therefore go to different ones. Ray 2.60 can keep a session at one replica by `ConsistentHashRouter`, which is
experimental, and shares all other requests out without asking who has much to do: it is not used.

Requests come through the command's own door (`front`), not through Ray's proxy. Where a replica dies, the proxy ends
its streams without a word, so that a client takes half an answer for a whole one; it answers 404 while an application
ends; and its address belongs to the whole cluster, on which others may serve, too.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ReplicaState

from tfguide.serving.cluster import Share
from tfguide.serving.front import Full
from tfguide.serving.hosting import Loaded
from tfguide.serving.server import create_app

TRIES = 3  # replicas that are asked, while none has taken the request
WATCH_SECONDS = 0.5  # between two looks at the replicas
_NAME = "replica"
_log = logging.getLogger(__name__)


class Replica:
    """The actor: an application, and its answers message by message."""

    async def __init__(self, load: Callable[[], Loaded], settings: Mapping[str, Any], share: Share):
        share.take()
        self._app = create_app(load, **settings)
        self._app.host.start()
        while self._app.host.state == "loading":
            await asyncio.sleep(0.01)
        if self._app.host.failure is not None:
            raise self._app.host.failure

    def check_health(self) -> None:
        """Raises RuntimeError where the engine has failed, so that Ray Serve replaces the replica."""
        if self._app.host.state == "failed":
            raise RuntimeError("the engine has failed")

    def metrics(self) -> tuple[str, str]:
        """The name of the replica and its metrics."""
        return serve.get_replica_context().replica_id.unique_id, self._app.metrics.text().decode()

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The messages of an answer, as they come; at first an empty list. Where it is closed, the work ends."""
        yield []
        requests, messages, has_news = asyncio.Queue(), [], asyncio.Event()
        requests.put_nowait({"type": "http.request", "body": body, "more_body": False})

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)
            has_news.set()

        work = asyncio.ensure_future(self._app(scope, requests.get, send))
        work.add_done_callback(lambda _: has_news.set())
        try:
            while not work.done() or messages:
                await has_news.wait()
                has_news.clear()
                found, messages[:] = messages[:], []
                if found:
                    yield found
            work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


class RayReplicas:
    """`Replicas` that Ray Serve runs, in an application of its own.

    load, settings: of each one's application, see `create_app`; both travel to the actors. n: how many. share: what
    each gets. most: the requests that one may have at once, its engine's queue and rows; as many again wait outside.
    """

    def __init__(
        self, load: Callable[[], Loaded], settings: Mapping[str, Any], n: int, share: Share, most: int
    ):  # fmt: skip
        self.failure: BaseException | None = None
        self._name = f"tfguide-{uuid.uuid4().hex[:12]}"
        # The engine refuses what is too much and says when to come again, so Ray must not hold it back before.
        deployment = serve.deployment(Replica).options(
            name=_NAME, num_replicas=n, max_ongoing_requests=most + 64, max_queued_requests=most,
            ray_actor_options={"num_cpus": share.cpus}, max_constructor_retry_count=1, health_check_period_s=5.0,
            graceful_shutdown_timeout_s=5.0, graceful_shutdown_wait_loop_s=0.1,
            logging_config={"enable_access_log": False},
        )  # fmt: skip
        self._target = deployment.bind(load, dict(settings), share)
        self._handle: Any = None
        self._n_running = 0
        self._is_deployed, self._is_stopped = threading.Event(), threading.Event()

    @property
    def state(self) -> str:
        """loading: none answers yet, or none any more; ready; or failed."""
        if self.failure is not None:
            return "failed"
        return "ready" if self._n_running else "loading"

    def start(self) -> None:
        """Begin to start the replicas."""
        threading.Thread(target=self._run, name="tfguide replicas", daemon=True).start()

    async def ask(self, scope: dict[str, Any], body: bytes) -> AsyncGenerator[list[dict[str, Any]], None]:
        """See `Replicas`. A replica that dies before it has taken the request is passed over."""
        for last in range(TRIES):
            answer = self._handle.options(method_name="answer", stream=True).remote(scope, body)
            is_taken = is_whole = False
            try:
                async for messages in answer:
                    is_taken = True
                    yield messages
                is_whole = True
                return
            except BackPressureError as error:
                raise Full from error
            except (ActorDiedError, ActorUnavailableError):
                if is_taken or last == TRIES - 1:
                    raise
            finally:
                if not is_whole:
                    answer.cancel()

    async def metrics(self) -> dict[str, str]:
        """The metrics of every replica, by its name."""
        found = await self._handle.broadcast("metrics").results_async(timeout_s=10)
        return dict(found)

    def stop(self) -> None:
        """End the replicas, also those that are being started."""
        self._is_stopped.set()
        if self._is_deployed.is_set():
            serve.delete(self._name)

    def _run(self):
        """Start the replicas, and look how many there are until the end."""
        try:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)  # a command prints its own lines
            serve.start(proxy_location="Disabled")
            self._is_deployed.set()
            self._handle = serve.run(self._target, name=self._name, route_prefix=None)
        except BaseException as error:  # whoever runs the front shows it
            if not self._is_stopped.is_set():
                self.failure = RuntimeError(f"the replicas do not start: {self._reason() or error}")
            return
        while not self._is_stopped.is_set():
            try:
                self._n_running = self._status().replica_states.get(ReplicaState.RUNNING, 0)
            except Exception as error:  # the controller is being replaced: what was known holds
                _log.warning("the cluster does not say how the replicas are: %s", error)
            self._is_stopped.wait(WATCH_SECONDS)

    def _status(self):
        return serve.status().applications[self._name].deployments[_NAME]

    def _reason(self):
        """The last line of what Ray tells of a replica that has failed: the exception; "" if it tells nothing."""
        try:
            return self._status().message.strip().splitlines()[-1]
        except Exception:
            return ""
