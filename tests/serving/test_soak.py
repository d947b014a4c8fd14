"""Requests of every kind at once: each ends as it would alone, and nothing is left over; and the soak sees if not."""

import itertools

import pytest

from tests.support import FRAMEWORKS
from tfguide.bench import soak, soak_http
from tfguide.serving import Finish


@pytest.fixture
def engine():
    return soak.tiny_engine()


def test_nothing_is_lost_mixed_up_or_left_over(engine):
    report = soak.soak(engine, 400)
    assert report.faults == []
    assert report.refused["queue full"] > 10 and report.refused["wrong"] > 5
    assert all(report.ended[reason] > 10 for reason in ("stop", "length", "abort"))
    assert report.preempted > 10 and report.shared > 500
    assert sum(report.ended.values()) >= 400 - report.refused["queue full"]
    assert len(report.memory) == 20 and "texts gave up their blocks" in report.summary()


@pytest.mark.parametrize("framework", ["torch", pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_in_the_layers_of_a_framework(framework):
    report = soak.soak(soak.tiny_engine(framework, quantized=False), 50, seed=3, cases=16)
    assert report.faults == [] and report.ended["length"] > 5


def test_through_the_server():
    report = soak_http.soak_http(soak.tiny_engine(), 400, seed=2)
    assert report.faults == []
    assert report.refused["queue full"] > 10 and report.refused["wrong"] > 10
    assert report.ended["left"] > 20 and report.ended["whole"] > 100
    assert report.preempted > 10 and report.shared > 500


@pytest.mark.slow
def test_ten_thousand_through_the_server():
    report = soak_http.soak_http(soak.tiny_engine(), 10_000, seed=1)
    assert report.faults == []
    assert max(report.memory[1:]) <= soak.FLAT * report.memory[1]


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ten_thousand(framework):
    report = soak.soak(soak.tiny_engine(framework), 10_000, seed=1)
    assert report.faults == []
    assert max(report.memory[1:]) <= soak.FLAT * report.memory[1]


def test_requests_are_of_every_kind(engine):
    cases = soak.make_cases(engine.config, 300, seed=5)
    assert len(set(cases)) > 290 and cases == soak.make_cases(engine.config, 300, seed=5)
    for kind in (
        lambda one: one.n > 1, lambda one: one.sampling.temperature == 0, lambda one: one.salt is not None,
        lambda one: one.logprobs is not None, lambda one: one.prompt_logprobs is not None, lambda one: one.priority > 0,
        lambda one: len(one.prompt) + one.max_new_tokens > 80, lambda one: one.sampling.repetition_penalty is not None,
    ):  # fmt: skip
        assert 3 < sum(map(kind, cases)) < 297
    prompts = [one.prompt for one in cases]
    assert sum(a[:16] == b[:16] for a, b in itertools.combinations(prompts, 2) if len(a) > 16 < len(b)) > 100
    for one in cases:
        engine.sequences(one)  # all of them are served


def leak(engine, monkeypatch):
    """Let one block keep a holder that has gone."""
    release, calls = engine.pool.release, itertools.count()

    def leaky(table):
        if next(calls) == 25:  # one block is held a second time
            engine.pool.share_prefix(type(table)(table.salt), list(range(200)))
            engine.pool._holders[table.blocks[-1]] += 1
        release(table)

    monkeypatch.setattr(engine.pool, "release", leaky)


def test_a_leak_is_seen(engine, monkeypatch):
    leak(engine, monkeypatch)
    report = soak.soak(engine, 60, cases=16)
    assert any("1 blocks are in use while nothing runs" in fault for fault in report.faults)


def test_another_token_is_seen(engine, monkeypatch):
    read, calls = engine._read, itertools.count()

    def wrong(chunks):
        logits = read(chunks)
        if next(calls) == 40:
            logits[-1, logits[-1].argmin()] = 1e9
        return logits

    monkeypatch.setattr(engine, "_read", wrong)
    report = soak.soak(engine, 60, cases=16)
    assert any("alone: [" in fault for fault in report.faults) and len(report.faults) < 20


def test_a_second_end_and_a_wrong_reason_are_seen(engine, monkeypatch):
    made = soak.Ticket.take

    def twice(self, update):
        if update.finish is Finish.LENGTH and self.case == 1:
            self.ends[update.sequence.choice].append((Finish.STOP, None))
        return made(self, update)

    monkeypatch.setattr(soak.Ticket, "take", twice)
    report = soak.soak(engine, 60, cases=4)
    assert any("ended twice" in fault for fault in report.faults)
    assert any("Finish.STOP, None; alone" in fault for fault in report.faults)


def test_a_request_that_never_ends_is_seen(engine, monkeypatch):
    monkeypatch.setattr(soak, "PATIENCE", 0.5)
    made, lost = soak.Ticket.take, set()

    def deaf(self, update):
        if len(lost) < 1:
            lost.add(self)
        return self not in lost and made(self, update)

    monkeypatch.setattr(soak.Ticket, "take", deaf)
    report = soak.soak(engine, 30, cases=8)
    assert any("requests never end" in fault for fault in report.faults)


def test_a_failed_engine_is_seen(engine, monkeypatch):
    step, calls = engine.step, itertools.count()

    def broken():
        if next(calls) == 20:
            raise RuntimeError("out of order")
        return step()

    monkeypatch.setattr(engine, "step", broken)
    report = soak.soak(engine, 60, cases=8)
    assert any("the engine failed: RuntimeError('out of order')" in fault for fault in report.faults)


def test_memory_that_grows_is_seen(engine, monkeypatch):
    sizes = itertools.count(100, 1)
    monkeypatch.setattr(soak, "resident", lambda key: next(sizes))
    report = soak.soak(engine, 40, cases=8)
    assert any("memory grew from 101 to 119 bytes" in fault for fault in report.faults)


def test_the_command_says_what_it_saw(tmp_path, capsys, monkeypatch):
    assert soak.main(["--requests", "40", "--json", str(tmp_path / "soak.json")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("40 requests in ") and "40 of 40 requests, 0 faults" in err
    assert '"faults": []' in (tmp_path / "soak.json").read_text()
    monkeypatch.setattr(soak, "FLAT", 0.0)
    assert soak.main(["--requests", "40"]) == 1
    assert "FAULT: memory grew" in capsys.readouterr().out


def test_another_text_a_leak_and_another_status_are_seen_through_the_server(engine, monkeypatch):
    read = engine._read

    def wrong(chunks):
        logits = read(chunks)
        if engine.n_steps == 40:
            logits[-1, logits[-1].argmin()] = 1e9
        return logits

    leak(engine, monkeypatch)
    monkeypatch.setattr(engine, "_read", wrong)
    monkeypatch.setattr(soak_http, "BAD", ((b"{", 422),))
    faults = soak_http.soak_http(engine, 100, cases=16).faults
    for words in ("; alone: [", "1 blocks are in use while nothing runs", "is answered by status 400"):
        assert any(words in fault for fault in faults), words
