"""The door before many replicas, with replicas that do what they are told."""

import asyncio

import httpx
import pytest

from tests.serving.applications import events
from tfguide.serving import front
from tfguide.serving.front import Front, Full
from tfguide.serving.metrics import merged

STREAM = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
PART = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
END = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}


class Fakes:
    """Replicas whose answer is a list: of messages, of exceptions that are raised, of seconds that are waited for."""

    def __init__(self, *answer, state="ready"):
        self.answer, self.state, self.failure, self.asked, self.n_closed = answer, state, None, [], 0

    def start(self):
        pass

    async def ask(self, scope, body):
        self.asked.append((scope, body))
        try:
            for one in self.answer:
                if isinstance(one, Exception):
                    raise one
                if isinstance(one, float):
                    await asyncio.sleep(one)
                else:
                    yield one
        finally:
            self.n_closed += 1

    async def metrics(self):
        return {"a": "# HELP x y\n# TYPE x gauge\nx 1.0\n", "b": "# HELP x y\n# TYPE x gauge\nx 2.0\n"}

    def stop(self):
        self.state = "stopped"


def talk(fakes, conversation, **settings):
    """The result of `conversation(client, door)`, an async function."""

    async def all_of_it():
        door = Front(fakes, **settings)
        transport = httpx.ASGITransport(door, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await conversation(client, door)

    return asyncio.run(all_of_it())


def ask(*answer, state="ready", **more):
    return talk(Fakes(*answer, state=state), lambda client, door: client.post("/v1/x", content=b"{}", **more))


def test_an_answer_is_passed_on_as_it_is():
    fakes = Fakes([], [STREAM, PART], [PART], [END])
    found = talk(fakes, lambda client, door: client.post("/v1/x?y=1", content=b"{}", headers={"x-request-id": "me"}))
    assert found.status_code == 200 and found.text == "data: 1\n\ndata: 1\n\ndata: [DONE]\n\n"
    assert found.headers.get_list("x-request-id") == ["me"]
    ((scope, body),) = fakes.asked
    assert (scope["path"], scope["query_string"], scope["method"], body) == ("/v1/x", b"y=1", "POST", b"{}")
    assert fakes.n_closed == 1


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [([RuntimeError("/secret")], 503, "replica_lost"), ([[], RuntimeError("x")], 503, "replica_lost"),
     ([Full()], 429, "overloaded"), ([5.0], 503, "loading")],
)  # fmt: skip
def test_before_anything_was_sent_an_error_is_an_answer(answer, status, code, monkeypatch):
    monkeypatch.setattr(front, "ACCEPT_SECONDS", 0.05)
    found = ask(*answer)
    assert found.status_code == status and found.json()["error"]["code"] == code and found.headers["retry-after"]
    assert "secret" not in found.text


def test_a_stream_whose_replica_dies_ends_with_an_error():
    first, last = events(ask([], [STREAM, PART], RuntimeError("x")).text)
    assert first == 1 and last["error"]["code"] == "replica_lost"


def test_who_has_taken_a_request_may_think_for_long(monkeypatch):
    monkeypatch.setattr(front, "ACCEPT_SECONDS", 0.05)
    assert ask([], 0.2, [STREAM, END]).text == "data: [DONE]\n\n"


@pytest.mark.parametrize("state", ["loading", "failed"])
def test_without_replicas_nothing_is_asked(state):
    found = ask([], [STREAM, END], state=state)
    assert found.status_code == 503 and found.json()["error"]["code"] == state


def test_the_end():
    """What runs has its time; then it ends with an error, and nothing new is taken."""

    async def conversation(client, door):
        stream = asyncio.create_task(client.post("/v1/x", content=b""))
        while not door.host.open:
            await asyncio.sleep(0.01)
        assert not await door.host.drain(0.05)
        refused = await client.post("/v1/x", content=b"")
        await door.host.stop()
        assert await door.host.drain(1)
        return refused, await stream, await client.get("/health")

    fakes = Fakes([], [STREAM, PART], 60.0)
    refused, stream, health = talk(fakes, conversation)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "stopping"
    assert events(stream.text)[-1]["error"]["code"] == "stopping"
    assert health.status_code == 503 and fakes.n_closed == 1 and fakes.state == "stopped"


def test_a_key_and_the_size_of_a_body_are_checked_at_the_door():
    fakes = Fakes([], [STREAM, END])

    async def conversation(client, door):
        key = {"authorization": "Bearer k"}
        return [
            (await client.post("/v1/x", content=body, headers=headers)).status_code
            for body, headers in ((b"", {}), (b"12345", key), (b"1234", key))
        ]

    assert talk(fakes, conversation, api_key="k", max_body=4) == [401, 413, 200] and len(fakes.asked) == 1


def test_metrics_name_their_replica():
    found = talk(Fakes(), lambda client, door: client.get("/metrics"))
    assert found.text == '# HELP x y\n# TYPE x gauge\nx{replica="a"} 1.0\nx{replica="b"} 2.0\n'
    assert merged({"a": '# HELP x y\nx{le="+Inf",r="}"} 1\n'}) == '# HELP x y\nx{replica="a",le="+Inf",r="}"} 1\n'
