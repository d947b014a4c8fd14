"""`python -m tfguide.bench.soak`: many requests of every kind, and whether anything is lost, mixed up or left over.

A tiny random model, so that ten thousand requests take minutes. Requests arrive faster than they are served, the cache
is so small that texts give up their blocks, the queue is so short that requests are refused, some are aborted in
whatever state they are, and some are no requests at all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfguide.bench.memory import resident
from tfguide.bench.run import write_json
from tfguide.bench.soak_requests import BAD, CASES, alone, make_cases, tiny_engine, wrong_request
from tfguide.bench.timing import machine
from tfguide.checks.values import check_count
from tfguide.loading import FRAMEWORKS
from tfguide.serving import Engine, Finish, QueueFull, Update
from tfguide.serving import Sequence as Text
from tfguide.serving.service import Service, Stopped

ALIVE = 24  # requests that are not ended at once, about: more than the queue takes
FLAT = 1.05  # the most memory over that after the first tenth
PATIENCE = 60.0  # seconds without any news, after which requests count as lost
ABORTED = 0.15  # of all requests


@dataclass
class Report:
    """What became of the requests of a soak. faults: what must not happen, in words; none is what is hoped for."""

    n: int
    ended: Counter = field(default_factory=Counter)  # of sequences, by the reason
    refused: Counter = field(default_factory=Counter)  # of requests
    preempted: int = 0
    shared: int = 0  # tokens of prompts that were taken from the cache
    memory: list[int] = field(default_factory=list)  # bytes, after each twentieth of the requests
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def check_blocks(self, engine: Engine) -> None:
        """Wait until an engine has nothing to do, and look whether all of its blocks are back."""
        end = time.monotonic() + PATIENCE
        while not engine.is_idle and time.monotonic() < end:
            time.sleep(0.001)
        pool = engine.pool
        held = [block for block in range(pool.n_blocks) if pool.holders(block)]
        if held or pool.n_used or pool.n_unused != pool.n_blocks:
            self.faults.append(f"{pool.n_used} blocks are in use while nothing runs: {held}")

    def sample_memory(self) -> None:
        """Note how much memory the process has, on Linux."""
        if os.path.exists("/proc/self/status"):
            self.memory.append(resident("VmRSS"))

    def close(self, engine: Engine, start: float) -> None:
        """Note what a soak that began at `start` (time.monotonic) took, and look whether its memory has grown."""
        self.preempted, self.seconds = engine.scheduler.n_preempted, time.monotonic() - start
        memory = self.memory[1:]  # after the first tenth
        if memory and max(memory) > FLAT * memory[0]:
            self.faults.append(f"memory grew from {memory[0]} to {max(memory)} bytes: {memory}")

    def summary(self) -> str:
        """The report in lines."""
        first, most = (self.memory[1], max(self.memory[1:])) if len(self.memory) > 1 else (0, 0)
        words = [
            f"{self.n} requests in {self.seconds:.0f} s; texts: {dict(self.ended)}; refused: {dict(self.refused)}",
            f"{self.preempted} texts gave up their blocks, {self.shared} tokens of prompts were shared",
            f"memory after a tenth {first / 1e6:.0f} MB, at most {most / 1e6:.0f} MB later",
        ]
        return "\n".join([*words, *(f"FAULT: {fault}" for fault in self.faults)])


class Ticket:
    """A request that was sent: what came of each of its texts so far."""

    def __init__(self, case: int, n: int):
        self.case, self.n = case, n
        self.tokens: dict[int, list[int]] = {choice: [] for choice in range(n)}
        self.ends: dict[int, list[tuple[Finish, str | None]]] = {choice: [] for choice in range(n)}
        self.is_aborted = False

    def take(self, update: Update) -> bool:
        """Note an update; whether it was the last one that is expected."""
        choice = update.sequence.choice
        if update.token is not None:
            self.tokens[choice].append(update.token)
        if update.finish is not None:
            self.ends[choice].append((update.finish, update.sequence.error))
        return update.finish is not None and all(self.ends.values())

    def abort(self) -> None:
        """Note that it was aborted: its texts may end early."""
        self.is_aborted = True


def soak(
    engine: Engine, n: int, seed: int = 0, cases: int = CASES, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Send n requests to an engine, some of which are aborted, refused or wrong, and report what became of them.

    Faults: a request that does not end, or ends twice; tokens that are not those of the request alone (of an aborted
    one, not a beginning of them), or another reason for their end; a wrong request that is taken; a block in use when
    nothing runs; a failed engine; more memory than FLAT times what there was after the first tenth, on Linux.
    """
    check_count("n", n)
    requests = make_cases(engine.config, cases, seed)
    return _Soak(engine, requests, [alone(engine.model, one) for one in requests], n, seed, say).run()


class _Soak:
    """A soak that runs."""

    def __init__(self, engine, requests, expected, n, seed, say):
        self.engine, self.requests, self.expected = engine, requests, expected
        self.say, self.report = say, Report(n)
        self.stream = np.random.default_rng([seed, 2])
        self.news: queue.SimpleQueue[Ticket] = queue.SimpleQueue()
        self.ticks = threading.Semaphore(0)  # one for each delivery: lets aborts fall between any two steps
        self.alive: dict[Ticket, Sequence[Text]] = {}
        self.service = Service(engine, self._deliver)

    def run(self) -> Report:
        start = time.monotonic()
        self.service.start()
        part = max(1, self.report.n // 20)
        with contextlib.suppress(Stopped):  # the engine has failed, and says why
            for i in range(self.report.n):
                self._send()
                while len(self.alive) > self.stream.integers(2 * ALIVE):
                    self._take_news()
                if (i + 1) % part == 0 and self._quiet():
                    self._sample(i + 1)
        self._quiet()
        self.service.stop()
        if self.service.failure is not None:
            self.report.faults.append(f"the engine failed: {self.service.failure!r}")
        self.report.close(self.engine, start)
        return self.report

    def _deliver(self, updates):
        for update in updates:
            ticket = update.sequence.client
            if ticket.take(update):
                self.news.put(ticket)
        self.ticks.release()

    def _send(self):
        if self.stream.random() < 0.05:
            self._send_wrong()
        case = int(self.stream.integers(len(self.requests)))
        ticket = Ticket(case, self.requests[case].n)
        try:
            self.alive[ticket] = self.service.submit(self.requests[case], ticket)
        except QueueFull:
            self.report.refused["queue full"] += 1
            self._take_news()
            return
        if self.stream.random() < ABORTED:
            some = list(self.alive)
            for _ in range(int(self.stream.integers(4))):  # at once, or some steps later
                self.ticks.acquire(timeout=0.01)
            chosen = some[int(self.stream.integers(len(some)))]
            chosen.abort()
            self.service.abort(self.alive[chosen])

    def _send_wrong(self):
        kind = BAD[int(self.stream.integers(len(BAD)))]
        try:
            self.service.submit(wrong_request(kind, self.requests[0], self.engine.config.vocab_size), Ticket(0, 1))
        except (ValueError, TypeError):
            self.report.refused["wrong"] += 1
        else:
            self.report.faults.append(f"a wrong request was taken: {kind}")

    def _take_news(self):
        """Wait for a request to end, and look at what came; False if none ends any more."""
        try:
            ticket = self.news.get(timeout=PATIENCE)
        except queue.Empty:
            self.report.faults.append(f"{len(self.alive)} requests never end")
            self.alive.clear()
            return False
        for text in self.alive.pop(ticket):
            self._check(ticket, text)
        return True

    def _check(self, ticket, text):
        request, choice = self.requests[ticket.case], text.choice
        got, wanted = ticket.tokens[choice], self.expected[ticket.case][choice]
        (reason, error), *more = ticket.ends[choice]
        self.report.ended[reason.value] += 1
        self.report.shared += text.n_shared or 0
        is_whole = len(wanted) == request.max_new_tokens
        stops = request.stop_tokens is None and wanted[-1] in text.stop_tokens
        right = Finish.STOP if stops else Finish.LENGTH if is_whole else None
        about = f"case {ticket.case}, choice {choice}"
        if more:
            self.report.faults.append(f"{about} ended twice: {reason}, {more}")
        if reason is Finish.ABORT and ticket.is_aborted:
            if got != wanted[: len(got)]:
                self.report.faults.append(f"{about}, aborted: {got} are no beginning of {wanted}")
        elif reason is not right or got != wanted:
            self.report.faults.append(f"{about}: {got}, {reason}, {error}; alone: {wanted}, {right}")

    def _quiet(self):
        """Wait until nothing runs, and look whether all blocks are back; False if a request never ends."""
        while self.alive:
            if not self._take_news():
                return False
        self.report.check_blocks(self.engine)
        return True

    def _sample(self, done):
        self.report.sample_memory()
        self.say(f"{done} of {self.report.n} requests, {len(self.report.faults)} faults")


def command(run: Callable[..., Report], program: str, about: str, arguments: list[str] | None) -> int:
    """The command line of a soak, which `run` is; returns 1 where there was a fault, else 0."""
    parser = argparse.ArgumentParser(prog=f"python -m tfguide.bench.{program}", description=about)
    parser.add_argument("--requests", type=int, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--plain", action="store_true", help="the framework's own layers in float32, and no kernels")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--json", metavar="FILE", help="write the report to FILE")
    options = parser.parse_args(arguments)
    engine = tiny_engine(options.framework, not options.plain)
    report = run(engine, options.requests, options.seed, say=lambda line: print(line, file=sys.stderr))
    print(report.summary())
    if options.json:
        write_json({"task": program, "machine": machine(), **vars(report)}, options.json)
    return 1 if report.faults else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns as `command`."""
    return command(soak, "soak", __doc__.split("\n\n")[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
