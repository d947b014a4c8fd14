"""Several engines on a Ray cluster: answers as from one, a replica that dies, the end of a server, a shared batch.

One cluster runs for all tests, in a folder of its own, and the commands find it by RAY_ADDRESS.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cli.test_chat import write_model
from tests.serving.applications import TOKENIZER, Slow, events
from tfguide import cli
from tfguide.serving import Engine
from tfguide.serving.hosting import Loaded

# Ray is imported where it is used: its threads must not stand in the way of tests that run before.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "TFGUIDE_THREADS": "1", "PYTHONUNBUFFERED": "1",
    "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own classes
LONG = {"max_tokens": 4000, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("ray"), 4096)


@pytest.fixture(scope="module")
def ray():
    """Ray, connected to a cluster of five cores on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        import ray

        from tfguide.serving.cluster import local

        with local(5) as address:
            patch.setenv("RAY_ADDRESS", address)
            yield ray


def command(*words, **more):
    """A process of `tfguide`; more: of its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "tfguide", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **more},
    )  # fmt: skip


@contextlib.contextmanager
def serving(checkpoint, *options):
    """The command and its address."""
    process = command("serve", "--ray", "--checkpoint", checkpoint, "--port", 0, *options)
    try:
        line = process.stdout.readline()
        assert " answers at http://127.0.0.1:" in line, (line, process.stderr.read() if not line else "")
        yield process, line.split(" answers at ")[1].split()[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(ray, checkpoint):
    with serving(
        checkpoint, "--replicas", "2", "--cpus", "1", "--rows", "8", "--name", "m", "--max-body", "0.0625"
    ) as (_, url):
        until(lambda: len(replicas(url)) == 2)
        yield url


def post(url, **body):
    asked = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    return urllib.request.urlopen(asked, timeout=60)


def text_of(url, **body):
    with post(url, **body) as answer:
        return json.load(answer)["choices"][0]["text"]


def get(url, path):
    with urllib.request.urlopen(f"{url}{path}", timeout=30) as answer:
        return answer.read().decode()


def running(url):
    """The sequences that run, by the name of their replica."""
    lines = [line for line in get(url, "/metrics").splitlines() if line.startswith("tfguide:num_requests_running{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


replicas = running


def kill(ray, part):
    """End the process of the actor whose name has this part."""
    actor = next(actor for actor in ray.util.list_named_actors(all_namespaces=True) if part in actor["name"])
    ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


def until(is_so, seconds=40):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class Streams:
    """Streams that are read in threads: `texts` when they have ended."""

    def __init__(self, url, n, **more):
        self.texts, self._began = {}, threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._read, args=(url, i, more)) for i in range(n)]
        for thread in self._threads:
            thread.start()
        for _ in range(n):
            assert self._began.acquire(timeout=30)

    def _read(self, url, i, more):
        with post(url, prompt=f"The dog {i}.", **{**LONG, **more}) as answer:
            first = answer.readline()
            self._began.release()
            self.texts[i] = (first + answer.read()).decode()

    def end(self):
        for thread in self._threads:
            thread.join(60)
        return [events(self.texts[i]) for i in sorted(self.texts)]


def test_answers_are_those_of_one_server(server, checkpoint, tmp_path):
    """Each prompt asked several times, so that both replicas answer, alone and beside others."""
    prompts = [f"The quick {i}" for i in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"prompt": p, "max_tokens": 12}) + "\n" for p in prompts))
    assert cli.main(
        ["batch", "--checkpoint", str(checkpoint), "--input", str(tmp_path / "in.jsonl"),
         "--output", str(tmp_path / "out.jsonl")]
    ) == 0  # fmt: skip
    lines = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    expected = {line["line"]: line["choices"][0]["text"] for line in lines}
    for i, prompt in enumerate(prompts, 1):
        for _ in range(3):
            assert text_of(server, prompt=prompt, max_tokens=12, temperature=0) == expected[i]
        with post(server, prompt=prompt, max_tokens=12, temperature=0, stream=True) as answer:
            *chunks, last = events(answer.read().decode())
        assert last == "[DONE]" and "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected[i]
    counts = [line for line in get(server, "/metrics").splitlines() if line.startswith("tfguide:prompt_tokens_total{")]
    assert len(counts) == 2 and all(float(line.split()[-1]) > 0 for line in counts), "both have answered"
    assert json.loads(get(server, "/v1/models"))["data"][0]["id"] == "m"
    assert "<html" in get(server, "/") and json.loads(get(server, "/health")) == {"status": "ready"}


@pytest.mark.parametrize(
    ("body", "status"),
    [({"prompt": 3}, 422), ({"prompt": "The", "model": "other"}, 404), ({"prompt": "x" * 70000}, 413)],
)
def test_errors_are_those_of_one_server(server, body, status):
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, **body)
    assert refused.value.code == status and json.load(refused.value)["error"]["message"]
    assert refused.value.headers.get_all("x-request-id") and len(refused.value.headers.get_all("x-request-id")) == 1


def test_what_a_client_leaves_ends(server):
    answer = post(server, prompt="The dog.", **LONG)
    answer.readline()
    assert sum(running(server).values()) == 1
    answer.close()
    until(lambda: sum(running(server).values()) == 0, 10)


@pytest.mark.slow
def test_a_replica_dies_while_streams_run(server, ray):
    streams = Streams(server, 6)
    until(lambda: min(running(server).values()) > 0 and len(running(server)) == 2)
    victim, n_lost = next(iter(running(server).items()))
    kill(ray, victim)
    for _ in range(10):  # the other one answers, at once
        assert text_of(server, prompt="The", max_tokens=3)
    ended = streams.end()
    lost = [stream[-1] for stream in ended if stream[-1] != "[DONE]"]
    assert len(lost) == n_lost and 0 < n_lost < 6
    assert {error["error"]["code"] for error in lost} == {"replica_lost"}
    assert all(stream[-2]["choices"][0]["finish_reason"] == "length" for stream in ended if stream[-1] == "[DONE]")
    until(lambda: len(replicas(server)) == 2)
    assert victim not in replicas(server), "Ray Serve has replaced it"


@pytest.mark.slow
def test_a_signal_lets_what_runs_end_and_refuses_the_rest(ray, checkpoint):
    before = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    with serving(checkpoint, "--cpus", "1", "--grace", "2", "--api-key", "k") as (process, url):
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(url, prompt="The")
        assert refused.value.code == 401
        opener = urllib.request.build_opener()
        opener.addheaders = [("authorization", "Bearer k")]
        urllib.request.install_opener(opener)
        try:
            short, long = Streams(url, 1, max_tokens=400), Streams(url, 1)
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(url, prompt="The")
            assert refused.value.code == 503 and refused.value.headers["retry-after"]
            assert short.end()[0][-1] == "[DONE]" and long.end()[0][-1]["error"]["code"] == "stopping"
        finally:
            urllib.request.install_opener(None)
        assert process.wait(30) == 0 and 2 <= time.monotonic() - begin < 20
        assert process.stderr.read() == "loading model ...\n"
    until(lambda: {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)} <= before)


@pytest.fixture
def lines(tmp_path):
    """A file of lines, some of them wrong, and the options that answer it."""
    few = [{"prompt": f"The quick {i}", "id": i, "temperature": 0.9} for i in range(300)]
    bad = ["no json", json.dumps({"prompt": "The", "max_tokens": 0}), json.dumps({"prompt": "x" * 9000})]
    (tmp_path / "in.jsonl").write_text("\n".join([*map(json.dumps, few), *bad]) + "\n")

    def options(checkpoint, name, *more):
        return ["batch", "--checkpoint", checkpoint, "--input", tmp_path / "in.jsonl", "--output", tmp_path / name,
                "--rows", 4, "--max-new-tokens", 40, *more]  # fmt: skip

    return options


def answers(path):
    """The answers, in the order of their lines; each line once."""
    found = sorted(map(json.loads, path.read_text().splitlines()), key=lambda line: line["line"])
    assert len({line["line"] for line in found}) == len(found)
    return found


@pytest.mark.slow
def test_a_batch_is_the_same_on_a_cluster_also_after_a_death_and_an_interrupt(ray, checkpoint, lines, tmp_path):
    assert cli.main(list(map(str, lines(checkpoint, "one.jsonl")))) == 1  # a bad line
    options, target = lines(checkpoint, "many.jsonl", "--ray", "--replicas", 2, "--cpus", 1), tmp_path / "many.jsonl"
    process = command(*options)
    until(lambda: target.exists() and target.stat().st_size)
    actors = ray._private.state.actors().values()
    workers = [actor for actor in actors if actor["ActorClassName"] == "Worker" and actor["State"] == "ALIVE"]
    os.kill(workers[0]["Pid"], signal.SIGKILL)
    before = len(target.read_text().splitlines())
    until(lambda: len(target.read_text().splitlines()) > before)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and len(target.read_text().splitlines()) < 303, err
    process = command(*options)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "303 of 303 lines, 3 with errors" in err
    assert answers(target) == answers(tmp_path / "one.jsonl")


@pytest.mark.slow
def test_a_cluster_of_this_machine_ends_with_the_command(checkpoint, lines, tmp_path):
    with tempfile.TemporaryDirectory(prefix="tfg") as folder:
        options = lines(checkpoint, "local.jsonl", "--ray", "--replicas", 2, "--max-new-tokens", 2)
        process = command(*options, **ENVIRONMENT, RAY_ADDRESS="", TMPDIR=folder)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1 and out == "" and "303 of 303 lines, 3 with errors" in err
        assert os.listdir(folder) == []
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder in read(path)]
        assert left == []


def read(path):
    """The text of a file; "" if its process has ended."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.slow
def test_what_keeps_a_replica_from_starting_is_said(ray, checkpoint):
    process = command("serve", "--ray", "--cpus", 1, "--port", 0, "--checkpoint", checkpoint, "--memory", 0.0000001)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2 and "the replicas do not start: " in err and "a block of 16" in err


def test_an_engine_that_dies_is_known_to_be_dead(monkeypatch):
    """The actor without Ray: it says that it is well until its engine has failed, and an engine must be there."""
    from tfguide.serving.cluster import Share
    from tfguide.serving.replicas import Replica

    monkeypatch.setenv("TFGUIDE_THREADS", "1")

    def load():
        return Loaded(Engine(Slow(0, fails_at=3), rows=2, n_blocks=9, tokens=16), TOKENIZER)

    def broken():
        raise ValueError("no such model")

    async def answers():
        replica = Replica.__new__(Replica)
        await replica.__init__(load, {"name": "m"}, Share(1, 1))
        replica.check_health()
        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"",
                 "headers": [(b"content-type", b"application/json")]}  # fmt: skip
        body = json.dumps({"prompt": "The", "max_tokens": 9, "stream": True, "ignore_eos": True}).encode()
        first, *rest = [messages async for messages in replica.answer(scope, body)]
        assert first == []
        text = b"".join(message.get("body", b"") for messages in rest for message in messages).decode()
        assert events(text)[-1]["error"]["code"] == "engine_error"
        with pytest.raises(RuntimeError, match="the engine has failed"):
            replica.check_health()
        with pytest.raises(ValueError, match="no such model"):
            await Replica.__new__(Replica).__init__(broken, {"name": "m"}, Share(1, 1))

    asyncio.run(answers())


def test_mistakes_are_said_in_a_line(checkpoint, capsys, tmp_path):
    (tmp_path / "in.jsonl").write_text("")
    batch = ["batch", "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    for words in (["serve", "--port", "0"], batch):
        for more, message in (
            (["--replicas", "2"], "--replicas needs --ray"), (["--cpus", "1"], "--cpus needs --ray"),
            (["--ray", "--replicas", "0"], "--replicas must be at least 1"),
            (["--ray", "--cpus", "-1"], "--cpus must be at least 1"),
        ):  # fmt: skip
            assert cli.main([*words, "--checkpoint", str(checkpoint), *more]) == 2
            assert message in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra():
    code = "import sys; sys.modules['ray'] = None; from tfguide.cli import main; sys.exit(main(['serve', '--ray']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "tfguide: several replicas need the package ray: pip install 'tfguide[ray]'\n"


@pytest.mark.parametrize(
    ("nodes", "replicas", "cores"),
    [([2], 2, 1), ([7], 2, 3), ([4, 4, 4], 2, 4), ([5, 3], 2, 3), ([16, 2], 3, 5), ([1], 2, 0), ([], 1, 0)],
)
def test_cores_are_shared_out(nodes, replicas, cores):
    from tfguide.serving.cluster import share

    assert share(nodes, replicas) == cores
