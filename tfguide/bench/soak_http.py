"""`python -m tfguide.bench.soak_http`: the soak through the server, from many clients at once.

They leave in the middle of a stream or of their own request, and send bodies that are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tfguide.bench.clients import HttpError, ask, send, stream
from tfguide.bench.soak import PATIENCE, Report, command
from tfguide.bench.soak_requests import CASES, alone, make_cases
from tfguide.checks.values import check_count
from tfguide.serving import Engine, Request
from tfguide.serving.hosting import Loaded
from tfguide.serving.running import in_thread
from tfguide.serving.server import create_app
from tfguide.text import pieces

CLIENTS = 30  # at once: more than the queue and the rows take
MOST_BODY = 20_000  # bytes
PARTS = 20  # of a soak; after each nothing runs, and blocks and memory are looked at
PATH = "/v1/completions"
LEAVING = ("stream", "silent", "half")  # in its middle, before anything came, in the middle of the request
#: Bodies that are none, with the status that they are answered with.
BAD: tuple[tuple[bytes, int], ...] = (
    (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 422), (b"null", 422), (b"{}", 422),
    (b'{"prompt": 3}', 422), (b'{"prompt": []}', 422), (b'{"prompt": ""}', 400), (b'{"prompt": [1, "a"]}', 422),
    (b'{"prompt": [100000]}', 400), (b'{"prompt": [-1]}', 400), (b'{"prompt": [1], "max_tokens": "many"}', 422),
    (b'{"prompt": [1], "max_tokens": 0}', 422), (b'{"prompt": [1], "max_tokens": 100000}', 400),
    (b'{"prompt": [1], "n": 0}', 422), (b'{"prompt": [1], "n": 1000}', 422),
    (b'{"prompt": [1], "temperature": -1}', 422), (b'{"prompt": [1], "temperature": 1e999}', 422),
    (b'{"prompt": [1], "logprobs": 100}', 422),
    (b'{"prompt": [1], "suffix": "x"}', 400), (b'{"prompt": [1], "model": "another"}', 404),
    (b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400), (b'{"prompt": "' + b"a" * MOST_BODY + b'"}', 413),
)  # fmt: skip


def soak_http(
    engine: Engine, n: int, seed: int = 0, cases: int = CASES, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Send n requests to a server over an engine, from many clients at once, and report what became of them.

    Besides those that are answered, in whole or as a stream, some clients leave, and some send what is no request.
    Faults: as those of `soak`; texts that are not those of the request alone, or of a stream that was left not a
    beginning of them; another status than the one expected; a server that fails.
    """
    check_count("n", n)
    tokenizer = _tokenizer(engine.config.vocab_size)
    requests = make_cases(engine.config, cases, seed)
    texts = [
        ["".join(pieces(tokenizer, one.prompt, tokens)) for tokens in alone(engine.model, one)] for one in requests
    ]
    app = create_app(lambda: Loaded(engine, tokenizer), name="tiny", max_body=MOST_BODY)
    report, start = Report(n), time.monotonic()
    with in_thread(app) as url:
        soaking = _Soak(url, requests, texts, report, np.random.default_rng([seed, 3]))
        for part in range(PARTS):
            asyncio.run(soaking.send(n * (part + 1) // PARTS - n * part // PARTS))
            report.check_blocks(engine)
            report.sample_memory()
            say(f"{n * (part + 1) // PARTS} of {n} requests, {len(report.faults)} faults")
        if app.host.state != "ready":
            report.faults.append(f"the server ended as {app.host.state}: {app.host.failure!r}")
    report.close(engine, start)
    return report


class _Soak:
    """The clients of a soak."""

    def __init__(self, url, requests, texts, report, draws):
        self.url, self.requests, self.texts, self.report, self.draws = url, requests, texts, report, draws

    async def send(self, n: int) -> None:
        """Send so many requests, CLIENTS at once, and wait until all have ended."""
        room = asyncio.Semaphore(CLIENTS)

        async def one(client, *arguments):
            async with room:
                await self._watched(client(*arguments))

        await asyncio.gather(*(one(*self._drawn()) for _ in range(n)))

    def _drawn(self):
        """What a client does, drawn before it does it: a function and its arguments."""
        draw, wait = self.draws.random(), float(self.draws.exponential(0.02))
        if draw < 0.1:
            return self._send_bad, int(self.draws.integers(len(BAD)))
        case = int(self.draws.integers(len(self.requests)))
        if draw < 0.25:
            return self._leave, LEAVING[int(self.draws.integers(len(LEAVING)))], case, wait
        return (self._ask if draw < 0.6 else self._stream), case

    async def _watched(self, client):
        try:
            async with asyncio.timeout(PATIENCE):
                await client
        except TimeoutError:
            self.report.faults.append("a request never ends")
        except HttpError as error:
            if error.status == 429:
                self.report.refused["queue full"] += 1
            else:
                self.report.faults.append(f"an answer that nobody expected: {error}")
        except (OSError, EOFError, ValueError) as error:
            self.report.faults.append(f"a connection failed: {error!r}")

    async def _send_bad(self, i):
        body, status = BAD[i]
        try:
            found = await ask(self.url + PATH, "POST", body)
        except HttpError as error:
            self.report.refused["wrong"] += 1
            if error.status == status:
                return
            found = error
        self.report.faults.append(f"the body {body[:60]!r} is answered by {found}, not by {status}")

    async def _leave(self, how, case, wait):
        body = self._body(case) | {"stream": how == "stream"}
        if how == "stream":
            texts = [""] * self.requests[case].n
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait), contextlib.aclosing(stream(self.url, body)) as events:
                    async for event in events:
                        _add(texts, event)
            if not all(whole.startswith(text) for text, whole in zip(texts, self.texts[case], strict=True)):
                self.report.faults.append(f"case {case}, left: {texts} begin not {self.texts[case]}")
        else:
            sent = json.dumps(body).encode()
            _, writer = await send(self.url + PATH, "POST", sent, None if how == "silent" else len(sent) // 2)
            await asyncio.sleep(wait)
            writer.close()
        self.report.ended["left"] += 1

    async def _ask(self, case):
        found = await ask(self.url + PATH, "POST", json.dumps(self._body(case)).encode())
        self._check(case, [choice["text"] for choice in found["choices"]], found["usage"])

    async def _stream(self, case):
        texts, usage = [""] * self.requests[case].n, None
        body = self._body(case) | {"stream": True, "stream_options": {"include_usage": True}}
        async with contextlib.aclosing(stream(self.url, body)) as events:
            async for event in events:
                _add(texts, event)
                usage = event.get("usage") or usage
        self._check(case, texts, usage)

    def _check(self, case, texts, usage):
        if texts != self.texts[case]:
            self.report.faults.append(f"case {case}: {texts}; alone: {self.texts[case]}")
        self.report.shared += ((usage or {}).get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        self.report.ended["whole"] += 1

    def _body(self, case) -> dict[str, Any]:
        request: Request = self.requests[case]
        sampling = request.sampling
        body = {
            "prompt": list(request.prompt), "max_tokens": request.max_new_tokens, "n": request.n,
            "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "repetition_penalty": sampling.repetition_penalty, "seed": sampling.seed, "priority": request.priority,
            "cache_salt": request.salt, "logprobs": request.logprobs, "ignore_eos": request.stop_tokens == (),
        }  # fmt: skip
        return {name: value for name, value in body.items() if value is not None}


def _add(texts, event):
    """Add the pieces of an event to the texts. Raises HttpError for an event that is an error."""
    if "error" in event:
        raise HttpError(f"an error in the stream: {event['error']}")
    for choice in event["choices"]:
        texts[choice["index"]] += choice["text"]


def _tokenizer(vocab_size):
    """A tokenizer whose tokens are bytes: most texts of a random model are broken characters, which are held back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:vocab_size]
    of_bytes = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    of_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    of_bytes.decoder = decoders.ByteLevel()
    return of_bytes


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns as `command`."""
    return command(soak_http, "soak_http", __doc__.split("\n\n")[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
