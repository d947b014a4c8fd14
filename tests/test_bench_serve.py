"""`tfguide bench serve`: arrivals and lengths as stated, numbers as computed by hand, a server of known delays."""

import asyncio
import contextlib
import json
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from tests.support import refuses
from tfguide import cli, native
from tfguide.bench import serve, servers, static, workload
from tfguide.bench.clients import Outcome, ask, drive
from tfguide.bench.servers import Launched, Remote
from tfguide.bench.workload import Task
from tfguide.generation import generate
from tfguide.tasks import smollm

needs_smollm = pytest.mark.skipif(not smollm.is_installed(), reason=f"needs SmolLM2: {smollm.INSTALL}")


def test_lengths_have_the_stated_distribution():
    lengths = workload.prompt_lengths(40_000, seed=3)
    for length, share in ((20, 0.24), (50, 0.39), (100, 0.48), (200, 0.57), (500, 0.84), (1000, 1.0)):
        assert (lengths <= length).mean() == pytest.approx(share, abs=0.01)
    assert 214 < lengths.mean() < 232 and lengths.min() == workload.SHORTEST and lengths.max() == 1000
    answers = workload.answer_lengths(40_000, seed=3)
    assert answers.mean() == pytest.approx(199, abs=4) and (answers.min(), answers.max()) == workload.ANSWERS
    assert np.median(answers) == pytest.approx(200 * np.log(2), abs=4)  # an exponential
    for draw in (workload.prompt_lengths, workload.answer_lengths):
        assert draw(9, 3).tolist() == draw(9, 3).tolist() != draw(9, 4).tolist()


def test_arrivals_are_a_poisson_process_that_the_rate_scales():
    times = workload.arrivals(5.0, 2000.0, seed=1)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(10_000, abs=300) and times[-1] < 2000 and (gaps > 0).all()
    assert gaps.mean() == pytest.approx(0.2, rel=0.03) and gaps.std() == pytest.approx(0.2, rel=0.03)
    counts = np.histogram(times, bins=np.arange(0, 2001, 1))[0]
    assert counts.var() == pytest.approx(counts.mean(), rel=0.1)
    np.testing.assert_allclose(workload.arrivals(10.0, 1000.0, seed=1), times / 2)
    assert workload.arrivals(5.0, 3.0, seed=1).tolist() == times[times < 3].tolist()
    assert workload.arrivals(5.0, 3.0, seed=2).tolist() != times[times < 3].tolist()
    for wrong in ((0, 1), (1, 0), (-1, 1)):
        with refuses(ValueError, "must be above 0"):
            workload.arrivals(*wrong)


@needs_smollm
def test_tasks_are_drawn_before_the_run_and_no_text_comes_twice():
    tokenizer = smollm.tokenizer()
    one, other = (workload.tasks(tokenizer, 4.0, 10.0, seed=5, step=step, most=300) for step in (0, 1))
    assert one == workload.tasks(tokenizer, 4.0, 10.0, seed=5, step=0, most=300)
    assert [(task.at, task.n_new) for task in one] == [(task.at, task.n_new) for task in other]
    assert not {task.prompt[:40] for task in one} & {task.prompt[:40] for task in other}
    wanted = np.minimum(workload.prompt_lengths(len(one), 5), 300)
    assert max(abs(task.n_prompt - n) for task, n in zip(one, wanted, strict=True)) <= 3
    for task in one:
        assert task.n_prompt == len(tokenizer.encode(task.prompt).ids) and task.n_new <= 300


def test_the_numbers_are_those_computed_by_hand():
    outcomes = [
        Outcome(at=0.0, sent=0.0, first=0.5, last=2.5, n_new=21),  # ttft 0.5, tpot 0.1: just good
        Outcome(at=1.0, sent=1.02, first=2.0, last=2.0, n_new=1),  # ttft 1, no tpot, late: good
        Outcome(at=2.0, sent=2.005, first=3.5, last=3.9, n_new=5),  # ttft 1.5
        Outcome(at=3.0, sent=3.0, first=3.2, last=5.2, n_new=11),  # tpot 0.2
        Outcome(at=4.0, sent=4.5, first=4.6, error="status 500"),  # failed, and late
    ]
    row = serve.measure(outcomes, seconds=5.0)
    assert (row["requests"], row["failures"], row["errors"]) == (5, 1, {"status 500": 1})
    assert row["late"] == 2 and row["most_late"] == pytest.approx(0.5)
    assert row["goodput"] == pytest.approx(2 / 5) and row["good_per_second"] == pytest.approx(2 / 5)
    # ttft 0.2, 0.5, 1, 1.5; latency 1, 1.9, 2.2, 2.5; tpot 0.1, 0.1, 0.2
    assert row["ttft"] == pytest.approx({"p50": 0.75, "p90": 1.35, "p99": 1.485})
    assert row["latency"] == pytest.approx({"p50": 2.05, "p90": 2.41, "p99": 2.491})
    assert row["tpot"] == pytest.approx({"p50": 0.1, "p90": 0.18, "p99": 0.198})
    assert row["tokens"] == 38 and row["lasted"] == 5.2
    assert row["tokens_per_second"] == pytest.approx((21 + 1 + 5 + 10) / 5)  # of the last one 1 + 10 x 1.8 / 2
    assert serve.measure(outcomes, 3.0)["tokens_per_second"] == pytest.approx((21 + 1) / 3)
    assert serve.measure(outcomes[:2], 5.0)["lasted"] == 5.0
    failed = serve.measure(outcomes[4:], 5.0)
    assert failed["ttft"] == {"p50": None, "p90": None, "p99": None} and failed["goodput"] == 0
    assert serve.measure([], 5.0)["requests"] == 0


def test_the_knee_lies_between_two_rates():
    rows = [{"name": "a", "rate": r, "goodput": g} for r, g in ((4, 0.5), (1, 1.0), (2, 1.0), (8, 0.9))]
    rows += [{"name": "b", "rate": 1, "goodput": 0.8}, {"name": "c", "rate": 3, "goodput": 1.0}]
    rows += [{"name": "c", "rate": 4, "error": "ended"}]
    assert serve.knee(rows, "a") == pytest.approx(2 + 2 * 0.1 / 0.5)
    assert serve.knee(rows, "b") is None and serve.knee(rows, "c") == 3 and serve.knee(rows, "d") is None


# The server with known delays: it is also a program of its own, which `Launched` starts.
SERVER = """
import asyncio
import json

FIRST, EACH = 0.10, 0.02  # seconds


async def answer(reader, writer, seen):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    _, _, length = head.lower().partition(b"content-length:")
    body = json.loads(await reader.readexactly(int(length.split()[0])) or b"{}")
    seen.append(body)

    def send(event):
        text = event if isinstance(event, str) else json.dumps(event)
        data = f"data: {text}\\n\\n".encode()
        for part in (data[:7], data[7:]):  # a chunk may end anywhere
            writer.write(f"{len(part):x}\\r\\n".encode() + part + b"\\r\\n")

    def plain(status, event):
        data = json.dumps(event).encode()
        writer.write(f"HTTP/1.1 {status} X\\r\\nContent-Length: {len(data)}\\r\\n\\r\\n".encode() + data)

    def piece(text, reason=None):
        return {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}

    prompt = body.get("prompt", "")
    if head.startswith(b"GET"):
        plain(200, {"data": [{"id": "fake"}]})
    elif prompt == "refuse":
        plain(503, {"error": {"message": "no room"}})
    elif prompt == "close":
        pass
    else:
        writer.write(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
        known = any(prompt[:500] == other.get("prompt", "")[:500] for other in seen[:-1]) and len(prompt) > 500
        await asyncio.sleep(FIRST / 10 if known else FIRST)
        for i in range(body["max_tokens"]):
            send(piece("" if prompt == "silent" else "x"))
            await writer.drain()
            await asyncio.sleep(10 if prompt == "hang" else EACH)
            if prompt == "break" and i:
                break
            if prompt == "fail" and i:
                send({"error": {"message": "ended"}})
        else:
            send(piece("", "length"))
            if prompt != "count":
                send({"choices": [], "usage": {"completion_tokens": body["max_tokens"]}})
            send("[DONE]")
        writer.write(b"0\\r\\n\\r\\n")
    try:
        await writer.drain()
    finally:
        writer.close()


async def listen(port, seen):
    server = await asyncio.start_server(lambda r, w: answer(r, w, seen), "127.0.0.1", port)
    return server, server.sockets[0].getsockname()[1]
"""
FAKE: dict = {}
exec(SERVER, FAKE)
FIRST, EACH = FAKE["FIRST"], FAKE["EACH"]


@contextlib.contextmanager
def fake():
    """The server in a thread: its url, and the bodies that it has seen."""
    seen, ready, loop = [], threading.Event(), asyncio.new_event_loop()
    where = {}

    async def serve_it():
        _, where["port"] = await FAKE["listen"](0, seen)
        ready.set()

    async def end():
        left = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def run():
        loop.run_until_complete(serve_it())
        loop.run_forever()
        loop.run_until_complete(end())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{where['port']}", seen
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def test_clients_see_the_delays_of_the_server_and_do_not_wait_for_each_other():
    work = [Task(0.05 * i, f"prompt {i}", 2, 3 + i) for i in range(6)]
    with fake() as (url, seen):
        assert asyncio.run(ask(f"{url}/v1/models")) == {"data": [{"id": "fake"}]}
        start = time.perf_counter()
        outcomes = drive(url, work, {"model": "fake", "temperature": 0})
        lasted = time.perf_counter() - start
    for task, one in zip(work, outcomes, strict=True):
        assert one.error is None and one.n_new == task.n_new and one.at == task.at <= one.sent
        assert one.first - one.at == pytest.approx(FIRST, abs=0.05) and one.first - one.sent > FIRST - 0.005
        assert (one.last - one.first) / (one.n_new - 1) == pytest.approx(EACH, abs=0.01)
    alone = sum(FIRST + task.n_new * EACH for task in work)
    assert lasted < 0.8 * alone  # they overlap
    bodies = {body["prompt"]: body for body in seen if body}
    assert len(bodies) == 6 and bodies["prompt 5"] == {
        "prompt": "prompt 5", "max_tokens": 8, "model": "fake", "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert serve.measure(outcomes, 0.3)["goodput"] == 1.0


def test_every_failure_is_counted_and_the_others_go_on():
    kinds = ["refuse", "close", "break", "fail", "hang", "silent", "count", "good"]
    with fake() as (url, _):
        outcomes = drive(url, [Task(0.0, kind, 1, 4) for kind in kinds], {}, timeout=0.8)
    errors = {kind: one.error for kind, one in zip(kinds, outcomes, strict=True)}
    assert errors["good"] is errors["count"] is None
    assert outcomes[kinds.index("count")].n_new == 4  # without usage the pieces are counted
    for kind, message in {
        "refuse": 'HttpError: status 503: {"error": {"message": "no room"}}', "close": "closed the connection",
        "break": "the stream ended before its text did", "fail": "an error in the stream",
        "hang": "no answer within 0.8 s", "silent": "no text",
    }.items():  # fmt: skip
        assert message in errors[kind], (kind, errors[kind])
    row = serve.measure(outcomes, 1.0)
    assert row["failures"] == 6 and row["goodput"] == 0.25 and sum(row["errors"].values()) == 6
    (lost,) = drive("http://127.0.0.1:9", [Task(0.0, "x", 1, 1)], {})
    assert "Error" in lost.error


def test_a_late_client_is_counted_and_its_latency_begins_when_it_was_due(monkeypatch):
    """The clients' own loop stands still for a while: what was due meanwhile is sent late."""
    from tfguide.bench import clients

    complete = clients.complete

    async def slow(url, body, outcome, start):
        if body["prompt"] == "blocks":
            time.sleep(0.15)
        await complete(url, body, outcome, start)

    monkeypatch.setattr(clients, "complete", slow)
    with fake() as (url, _):
        first, second, third = drive(url, [Task(0.0, "blocks", 1, 2), Task(0.05, "b", 1, 2), Task(0.4, "c", 1, 2)], {})
    assert second.sent - second.at == pytest.approx(0.1, abs=0.04)
    assert second.first - second.at > FIRST + 0.07  # not from the time when it was sent
    assert third.sent - third.at < 0.05 and first.sent < 0.05
    assert serve.measure([second, third], 1.0)["late"] >= 1


@pytest.fixture
def program(tmp_path):
    """The command of the server as a program of its own."""
    more = """
    import sys
    async def main():
        if sys.argv[2:] == ["ends"]:
            sys.exit("no such model")
        server, _ = await listen(int(sys.argv[1]), [])
        await server.serve_forever()
    asyncio.run(main())
    """
    (tmp_path / "server.py").write_text(SERVER + textwrap.dedent(more))
    return [sys.executable, str(tmp_path / "server.py"), "{port}"]


class Words:
    """A tokenizer of words, as far as a benchmark asks for one."""

    def __init__(self):
        self.words = []

    def encode(self, text, add_special_tokens=True):
        start = len(self.words)
        self.words += text.split()
        return type("Encoding", (), {"ids": list(range(start, len(self.words)))})()

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids)


def test_a_sweep_measures_each_contestant_at_each_rate(program):
    kept = []
    broken = Launched("broken", [*program, "ends"])
    with fake() as (url, _):
        contestants = [Launched("launched", program), Remote("remote", url), broken]
        result = serve.bench_serve(
            contestants, Words(), [12, 6], seconds=0.5, most=5, keep=lambda r: kept.append(len(r["rows"]))
        )
    rows = result["rows"]
    assert [(row["rate"], row["name"]) for row in rows] == [
        (6, "launched"), (6, "remote"), (6, "broken"), (12, "launched"), (12, "remote"),
    ]  # fmt: skip
    assert kept == [1, 2, 3, 4, 5]
    assert "the server ended with status 1: no such model" in rows[2]["error"]
    for row in rows[:2] + rows[3:]:
        assert row["failures"] == 0 and row["goodput"] == 1.0
        assert row["requests"] == len(workload.arrivals(row["rate"], 0.5))
        assert row["ttft"]["p50"] == pytest.approx(FIRST, abs=0.06)
        assert row["tpot"]["p50"] == pytest.approx(EACH, abs=0.015)
    assert result["settings"]["rates"] == [6, 12] and result["machine"]["cores"]
    text = serve.table(result)
    assert "no such model" in text and text.count("100%") == 4
    json.dumps(result)
    for wrong in ({"rates": [0]}, {"seconds": 0}, {"most": 1}):
        with pytest.raises(ValueError, match="must be"):
            serve.bench_serve([], Words(), **{"rates": [1], **wrong})


def test_a_contestant_that_has_fallen_behind_is_not_measured_at_higher_rates():
    class Slow:
        name = "slow"

        @contextlib.contextmanager
        def start(self):
            yield lambda tasks: [Outcome(task.at, task.at, task.at + 2, task.at + 2, 1) for task in tasks]

    result = serve.bench_serve([Slow()], Words(), [5, 10, 20], seconds=1.0)
    assert [row["rate"] for row in result["rows"]] == [5] and result["rows"][0]["goodput"] == 0
    assert serve.knee(result["rows"], "slow") is None


def test_a_known_beginning_brings_the_first_token_sooner(program):
    (row,) = serve.bench_prefix([Launched("fake", program)], Words(), repeats=3)
    assert row["cold"] == pytest.approx(FIRST, abs=0.05) and row["warm"] == pytest.approx(FIRST / 10, abs=0.03)
    assert 3 < row["times"] < 15 and row["shared"] == 1000
    (row,) = serve.bench_prefix([Launched("fake", [*program, "ends"])], Words(), repeats=1)
    assert "no such model" in row["error"]
    assert "no such model" in serve.table({"machine": {"processor": "p", "cores": 1}, "limits": {}, "rows": [],
                                           "prefix": [row]})  # fmt: skip


def test_static_batches_wait_for_their_longest_answer():
    work = [Task(0.0, "a", 1, 2), Task(0.01, "b", 1, 6), Task(0.02, "c", 1, 3), Task(0.03, "d", 1, 1)]
    batches = []

    def write(batch, step):
        batches.append([work.index(task) for task in (work[i] for i in batch)])
        for _ in range(max(work[i].n_new for i in batch)):
            time.sleep(0.02)
            step()

    outcomes = static.run_batches(work, 2, write)
    assert batches == [[0], [1, 2], [3]]  # what has arrived, at most two at once
    a, b, c, d = outcomes
    assert [one.n_new for one in outcomes] == [2, 6, 3, 1] and not any(one.error for one in outcomes)
    assert a.first == pytest.approx(0.02, abs=0.015) and a.last == pytest.approx(0.04, abs=0.02)
    assert b.first == c.first > a.last and c.last < b.last
    assert d.first == pytest.approx(b.last + 0.02, abs=0.015)  # it waited for the longest of the others
    assert d.sent == d.at == 0.03 and d.first == d.last


def test_static_batches_fail_who_has_waited_too_long():
    work = [Task(0.0, "a", 1, 2), Task(0.0, "b", 1, 20), Task(0.01, "c", 1, 1), Task(0.35, "d", 1, 1)]

    def write(batch, step):
        for _ in range(max(work[i].n_new for i in batch)):
            time.sleep(0.02)
            step()

    errors = [one.error for one in static.run_batches(work, 2, write, timeout=0.2)]
    late = "no answer within 0.2 s"  # b while it was written, c while it waited
    assert errors == [None, late, late, None]


@needs_smollm
@pytest.mark.slow
def test_static_batches_of_hugging_face_write_what_each_text_alone_is():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    contestant = static.StaticBatches(smollm.file(), smollm.tokenizer(), rows=4)
    with contestant.start() as running:
        texts = {"The sky is": 2, "Once upon a time, there": 5, "One two three": 3}
        outcomes = running([Task(0.0, text, 1, n) for text, n in texts.items()])
        ids = [contestant.tokenizer.encode(text).ids for text in texts]
        rows = contestant._write(ids, list(texts.values()), lambda: None)
    model = native.load(smollm.file(), "float32")
    assert rows == [generate(model, [one], 5, [])[0] for one in ids]  # padding and neighbours change nothing
    assert [one.n_new for one in outcomes] == [2, 5, 3] and torch.get_num_threads() >= 1
    assert all(0 < one.first < one.last for one in outcomes)


def test_the_commands_of_the_servers():
    ours = servers.our_server("m.gguf", ["--rows", "8"])
    assert ours.command[1:] == ["-m", "tfguide", "serve", "--checkpoint", "m.gguf", "--port", "{port}", "--rows", "8"]
    assert ours.more["ignore_eos"] is True
    llama = servers.llama_server("m.gguf", "py", [0, 2])
    assert llama.command[:3] == ["py", "-m", "llama_cpp.server"] and llama.more["logit_bias"] == {"0": -100, "2": -100}
    at = llama.command.index("--interrupt_requests")
    assert llama.command[at + 1] == "false"  # or the next request ends the one before
    with refuses(RuntimeError, "has no llama-cpp-python"):
        servers.llama_version("false")


@needs_smollm
def test_the_command_writes_what_it_measured(tmp_path, capsys):
    file, plot = tmp_path / "serve.json", tmp_path / "serve.svg"
    with fake() as (url, _):
        arguments = ["bench", "serve", "--contestants", "--url", f"one={url}", "--rates", "4", "--seconds", "1",
                     "--most", "4", "--repeats", "1", "--json", str(file), "--plot", str(plot)]  # fmt: skip
        assert cli.main(arguments) == 0
        assert "tokens a second, of all answers" in plot.read_text()
        out, err = capsys.readouterr()
        assert "measured one at 4 a second" in err and "100%" in out and "first token of 1000 shared tokens, one" in out
        first = json.loads(file.read_text())
        assert first["model"].startswith("SmolLM2") and first["contestants"] == {"one": {"url": "given"}}
        assert [row["name"] for row in first["rows"]] == ["one"] == [row["name"] for row in first["prefix"]]
        # the other part is kept
        assert cli.main([*arguments, "--part", "prefix"]) == 0
        assert json.loads(file.read_text())["rows"] == first["rows"]
    for wrong, message in (
        (["--contestants"], "must name what is measured"), (["--url", "x"], "--url must be NAME=http"),
        (["--rates", "0", "--url", "a=http://b"], "rates must be above 0"),
        (["--json", "/no/such/folder/file"], "--json names a file"),
        (["--plot", "/no/such/folder/file.svg"], "--plot names a file"), (["--plot", "file.gif"], "one of .svg, .png"),
    ):  # fmt: skip
        capsys.readouterr()
        assert cli.main(["bench", "serve", "--part", "sweep", *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
