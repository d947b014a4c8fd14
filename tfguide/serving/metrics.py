"""What a server counts, under the names that dashboards know, in a registry of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tfguide.serving.engine import Engine
from tfguide.serving.request import Finish, Sequence

PREFIX = "tfguide:"
CONTENT_TYPE = CONTENT_TYPE_LATEST
# Seconds: of a first token, of a whole answer and of a wait; and of the time between two tokens.
_LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
_SAMPLE = re.compile(r"([^\s{]+)(?:\{(.*)\})? (.*)")


class Metrics:
    """Counts what happens to requests.

    engine: a function that returns the engine, or None as long as there is none. Tokens of prompts are counted once for
    each choice, as they are looked up in the cache.
    """

    def __init__(self, engine: Callable[[], Engine | None]):
        self._engine, self.registry = engine, CollectorRegistry()
        self._gauge("num_requests_running", "Sequences that are being continued", lambda e: len(e.scheduler.running))
        self._gauge("num_requests_waiting", "Sequences that wait", lambda e: len(e.scheduler.waiting))
        self._gauge(
            "kv_cache_usage_perc", "The part of the cache's blocks that is held, 0 to 1",
            lambda e: e.pool.n_used / e.pool.n_blocks,
        )  # fmt: skip
        self._queries = self._counter("prefix_cache_queries", "Tokens of prompts that were looked up in the cache")
        self._hits = self._counter("prefix_cache_hits", "Tokens of prompts that were found in the cache")
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts")
        self._new_tokens = self._counter("generation_tokens", "New tokens")
        self._ended = self._counter("request_success", "Sequences that ended, by reason", ["finished_reason"])
        self._first = self._histogram("time_to_first_token_seconds", "From a request to its first token", _LONG)
        self._between = self._histogram("inter_token_latency_seconds", "From a token to the next one", _SHORT)
        self._whole = self._histogram("e2e_request_latency_seconds", "From a request to the end of an answer", _LONG)
        self._queued = self._histogram("request_queue_time_seconds", "From a request to its first step", _LONG)
        for reason in Finish:
            self._ended.labels(reason.value)
        self._pace, self._last_end = 0.0, time.monotonic()

    def token(self, sequence: Sequence, now: float, before: float, is_first: bool) -> None:
        """Count a new token. before: when the one before it came; for the first one, when the request came."""
        self._new_tokens.inc()
        if is_first:
            self._first.observe(now - before)
            self._queued.observe(max(0.0, sequence.began - before))
            self._prompt_tokens.inc(sequence.n_prompt)
            self._queries.inc(sequence.n_prompt)
            self._hits.inc(sequence.n_shared)
        else:
            self._between.observe(now - before)

    def end(self, reason: Finish, now: float, start: float) -> None:
        """Count the end of a sequence whose request came at `start`."""
        self._ended.labels(reason.value).inc()
        self._whole.observe(now - start)
        self._pace += 0.2 * (now - max(self._last_end, start) - self._pace)  # a mean of the last few
        self._last_end = now

    def retry_after(self) -> int:
        """Seconds, 1 to 60, after which a full queue will have ended as much as waits now, if it goes on as it does."""
        engine = self._engine()
        waiting = len(engine.scheduler.waiting) if engine is not None else 0
        return int(min(60, max(1, 1 + self._pace * waiting)))

    def text(self) -> bytes:
        """All numbers in Prometheus' format."""
        return generate_latest(self.registry)

    def _gauge(self, name, about, read):
        def value():
            engine = self._engine()
            return 0.0 if engine is None else read(engine)

        Gauge(PREFIX + name, about, registry=self.registry).set_function(value)

    def _counter(self, name, about, labels=()):
        return Counter(PREFIX + name, about, labels, registry=self.registry)

    def _histogram(self, name, about, buckets):
        return Histogram(PREFIX + name, about, registry=self.registry, buckets=buckets)


def merged(texts: Mapping[str, str]) -> str:
    """The numbers of many replicas in one text: each with the label `replica`. texts: `Metrics.text` by that name."""
    families: dict[str, list[str]] = {}
    for name, text in texts.items():
        samples: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                samples = families.setdefault(line.split()[2], [line])
            elif line.startswith("#"):
                if line not in samples:
                    samples.append(line)
            else:
                samples.append(_SAMPLE.sub(lambda found, name=name: _labelled(found, name), line))
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _labelled(found, replica):
    return f'{found[1]}{{replica="{replica}"{"," if found[2] else ""}{found[2] or ""}}} {found[3]}'
