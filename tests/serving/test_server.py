"""The application without a socket: answers, streams, limits, and what happens when clients or the engine go away."""

import asyncio
import math
import threading

import httpx
import pytest
import torch

import tfguide
import tfguide.torch as tg
from tests.serving.applications import (
    ENDS,
    MODEL,
    NAME,
    TEMPLATE,
    TOKENIZER,
    Slow,
    ask,
    events,
    make,
    running,
    talk,
    until,
)  # fmt: skip
from tfguide.serving import Engine, server
from tfguide.serving.hosting import Loaded

MESSAGES = [{"role": "user", "content": "The dog."}]
PROMPTS = ["The dog.", " quick 😀", "def f(x):", "你好，世界"]


def alone(text, n, stop_tokens, special=True, stop=(), **sampling):
    """What `generate` and the tokenizer make of a prompt alone: the text up to a stop, its tokens, and the end."""
    prompt = TOKENIZER.encode(text, add_special_tokens=special).ids
    new = tg.generate(MODEL, [prompt], n, stop_tokens, tfguide.Sampling(**sampling))[0]
    before = TOKENIZER.decode(prompt)
    for at in range(1, len(new) + 1):
        text = TOKENIZER.decode([*prompt, *new[:at]])[len(before) :]
        found = [text.find(one) for one in stop if one in text]
        if found:
            return text[: min(found)], at, "stop"
    return text, len(new), "stop" if new[-1] in stop_tokens else "length"


def streamed(path, body, app=None):
    """The texts of the choices of a stream, why they ended, and its usage."""
    found = events(ask(path, {**body, "stream": True, "stream_options": {"include_usage": True}}, app).text)
    assert found[-1] == "[DONE]" and found[-2]["choices"] == []
    assert len({chunk["id"] for chunk in found[:-1]}) == 1
    texts, reasons = {}, {}
    for chunk in found[:-2]:
        (choice,) = chunk["choices"]
        assert choice["index"] not in reasons, "a chunk behind the end"
        is_first = choice["index"] not in texts
        if "delta" in choice:
            assert chunk["object"] == "chat.completion.chunk"
            assert ("role" in choice["delta"]) == is_first  # the role comes with the first token
        else:
            assert chunk["object"] == "text_completion"
        piece = choice["text"] if "text" in choice else choice["delta"].get("content", "")
        texts[choice["index"]] = texts.get(choice["index"], "") + piece
        if choice["finish_reason"]:
            reasons[choice["index"]] = choice["finish_reason"]
    return [texts[i] for i in sorted(texts)], [reasons[i] for i in sorted(reasons)], found[-2]["usage"]


def whole(path, body, app=None):
    """The same of an answer that is not streamed."""
    found = ask(path, body, app).json()
    texts = [c["text"] if "text" in c else c["message"]["content"] for c in found["choices"]]
    assert [c["index"] for c in found["choices"]] == list(range(len(texts)))
    return texts, [c["finish_reason"] for c in found["choices"]], found["usage"]


@pytest.mark.parametrize("text", PROMPTS)
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0, "seed": 7, "top_p": 0.9}])
def test_streamed_and_not_streamed_are_generate(text, sampling):
    body = {"prompt": text, "max_tokens": 23, **sampling}
    expected, n, reason = alone(text, 23, [0], **sampling)
    for found in (whole("/v1/completions", body), streamed("/v1/completions", body)):
        assert found[:2] == ([expected], [reason])
        assert found[2]["completion_tokens"] == n
        assert found[2]["prompt_tokens"] == len(TOKENIZER.encode(text).ids)
        assert found[2]["total_tokens"] == n + found[2]["prompt_tokens"]
    messages = [{"role": "user", "content": text}]
    expected, n, reason = alone(TEMPLATE.render(messages), 23, ENDS, special=False, **sampling)
    body = {"messages": messages, "max_tokens": 23, **sampling}
    for found in (whole("/v1/chat/completions", body), streamed("/v1/chat/completions", body)):
        assert found[:2] == ([expected], [reason]) and found[2]["completion_tokens"] == n


@pytest.mark.parametrize("n_characters", [1, 2, 5])
def test_text_ends_before_a_stop_string(n_characters):
    """The beginning of one is never streamed, and what was held is lost only if one was found."""
    sampling = {"temperature": 1.0, "seed": 3}
    full, _, _ = alone("The dog.", 40, [], **sampling)
    stops = [full[start : start + n_characters] for start in range(5, 30, 6)]
    for stop in [*stops, stops[1] + "☃", ["☃", stops[2]], full[-2:] + "☃"]:
        several = [stop] if isinstance(stop, str) else stop
        expected, n, reason = alone("The dog.", 40, [], stop=several, **sampling)
        body = {"prompt": "The dog.", "max_tokens": 40, "ignore_eos": True, "stop": stop, **sampling}
        for found in (whole("/v1/completions", body), streamed("/v1/completions", body)):
            assert found[:2] == ([expected], [reason])
            assert found[2]["completion_tokens"] == n


def test_a_stop_in_the_last_token_is_a_stop():
    sampling = {"temperature": 1.0, "seed": 3}
    full, _, reason = alone("The dog.", 12, [], **sampling)
    assert reason == "length"
    body = {"prompt": "The dog.", "max_tokens": 12, "ignore_eos": True, **sampling}
    found = whole("/v1/completions", {**body, "stop": full[-1]})
    assert found[1] == ["stop"] and full.startswith(found[0][0])
    assert whole("/v1/completions", body)[:2] == ([full], ["length"])


def test_choices_and_prompts_are_in_order_and_draw_by_themselves():
    body = {"prompt": ["The dog.", " quick"], "n": 3, "max_tokens": 9, "seed": 5, "ignore_eos": True}
    texts, reasons, usage = whole("/v1/completions", body)
    assert len(set(texts)) == 6 and reasons == ["length"] * 6
    assert streamed("/v1/completions", body) == (texts, reasons, usage)
    assert usage["completion_tokens"] == 54
    assert usage["prompt_tokens"] == sum(len(TOKENIZER.encode(text).ids) for text in body["prompt"])
    assert whole("/v1/completions", {**body, "prompt": " quick"})[0] == texts[3:]
    drawn = [whole("/v1/completions", {**body, "seed": None, "prompt": "The"})[0] for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_cached_tokens_are_those_of_a_prompt_that_was_there():
    async def conversation(client, app):
        body = {"prompt": list(range(5, 75)), "max_tokens": 1}
        found = [(await client.post("/v1/completions", json=body)).json()["usage"] for _ in range(2)]
        return [usage["prompt_tokens_details"]["cached_tokens"] for usage in found]

    assert talk(conversation) == [0, 64]


def log_softmax_alone(tokens):
    logits = MODEL(torch.tensor([tokens]))[0].detach().double()
    return logits.log_softmax(-1).numpy()


def test_log_probabilities_of_a_completion():
    body = {"prompt": "The 😀 dog.", "max_tokens": 8, "logprobs": 3, "echo": True, "temperature": 0, "ignore_eos": True}
    (choice,) = ask("/v1/completions", body).json()["choices"]
    shown, prompt = choice["logprobs"], TOKENIZER.encode(body["prompt"]).ids
    tokens = prompt + tg.generate(MODEL, [prompt], 8, [])[0]
    expected = log_softmax_alone(tokens)
    assert [len(part) for part in shown.values()] == [len(tokens)] * 4
    assert shown["token_logprobs"][0] is None and shown["top_logprobs"][0] is None
    for at in range(1, len(tokens)):
        assert math.isclose(shown["token_logprobs"][at], expected[at - 1, tokens[at]], abs_tol=1e-4)
        assert math.isclose(max(shown["top_logprobs"][at].values()), expected[at - 1].max(), abs_tol=1e-4)
        assert 1 <= len(shown["top_logprobs"][at]) <= 4 and shown["tokens"][at] in shown["top_logprobs"][at]
    for name, place in zip(shown["tokens"], shown["text_offset"], strict=True):
        assert name.startswith(("bytes:", "<|")) or choice["text"][place : place + len(name)] == name
    parts = events(ask("/v1/completions", {**body, "stream": True}).text)[:-1]
    joined = {key: [one for part in parts for one in part["choices"][0]["logprobs"][key]] for key in shown}
    assert joined["tokens"] == shown["tokens"] and joined["text_offset"] == shown["text_offset"]
    assert "".join(part["choices"][0]["text"] for part in parts) == choice["text"]


@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_echo_without_a_new_token(logprobs):
    body = {"prompt": "The dog.", "max_tokens": 0, "echo": True, "logprobs": logprobs}
    (choice,), usage = (ask("/v1/completions", body).json()[key] for key in ("choices", "usage"))
    prompt = TOKENIZER.encode("The dog.").ids
    assert (choice["text"], choice["finish_reason"]) == ("The dog.", "length")
    assert (usage["completion_tokens"], usage["prompt_tokens"]) == (0, len(prompt))
    assert (choice["logprobs"] is None) == (logprobs is None)
    if logprobs is not None:
        expected = log_softmax_alone(prompt)
        found = choice["logprobs"]["token_logprobs"]
        assert found[0] is None and len(found) == len(prompt)
        assert all(math.isclose(found[i], expected[i - 1, prompt[i]], abs_tol=1e-4) for i in range(1, len(prompt)))
    assert streamed("/v1/completions", body) == (["The dog."], ["length"], usage)


def test_log_probabilities_of_a_chat():
    body = {"messages": MESSAGES, "max_tokens": 6, "logprobs": True, "top_logprobs": 2, "temperature": 0}
    (choice,) = ask("/v1/chat/completions", body).json()["choices"]
    content = choice["logprobs"]["content"]
    assert len(content) == 6
    assert b"".join(bytes(one["bytes"]) for one in content).decode(errors="replace") == choice["message"]["content"]
    for one in content:
        assert one["logprob"] == one["top_logprobs"][0]["logprob"] and len(one["top_logprobs"]) == 2
        assert set(one) == {"token", "logprob", "bytes", "top_logprobs"}
    (plain,) = ask("/v1/chat/completions", {**body, "top_logprobs": None}).json()["choices"]
    assert [one["top_logprobs"] for one in plain["logprobs"]["content"]] == [[]] * 6


def test_tokens_and_back():
    async def conversation(client, app):
        text = "The 😀 dog.<|im_end|>"
        found = (await client.post("/tokenize", json={"prompt": text})).json()
        back = (await client.post("/detokenize", json={"tokens": found["tokens"]})).json()
        chat = (await client.post("/tokenize", json={"messages": MESSAGES})).json()
        wrong = [await client.post("/detokenize", json={"tokens": t}) for t in ([-1], [10**9], ["a"])]
        wrong.append(await client.post("/tokenize", json={"prompt": "a", "messages": MESSAGES}))
        return text, found, back, chat, [one.status_code for one in wrong]

    text, found, back, chat, wrong = talk(conversation)
    assert found["tokens"] == TOKENIZER.encode(text).ids and found["count"] == len(found["tokens"])
    assert back == {"prompt": text} and found["max_model_len"] == 509
    assert chat["tokens"] == TOKENIZER.encode(TEMPLATE.render(MESSAGES)).ids
    assert wrong == [400, 400, 422, 422]


def test_models():
    async def conversation(client, app):
        return [await client.get(f"/v1/models{rest}") for rest in ("", f"/{NAME}", "/a/b")]

    listed, one, none = talk(conversation)
    assert listed.json() == {"object": "list", "data": [one.json()]}
    assert set(one.json()) >= {"id", "object", "created", "owned_by", "root"} and one.json()["id"] == NAME
    assert none.status_code == 404 and none.json()["error"]["code"] == "model_not_found"
    assert ask("/v1/completions", {"prompt": "a", "model": "gpt-4"}).status_code == 404
    assert ask("/v1/completions", {"prompt": "a", "model": NAME}).status_code == 200


def test_request_ids_are_echoed_and_never_used():
    async def conversation(client, app):
        body, headers = {"prompt": "The", "max_tokens": 20}, {"x-request-id": "mine"}
        same = await asyncio.gather(*(client.post("/v1/completions", json=body, headers=headers) for _ in range(4)))
        return same, await client.get("/health"), await client.get("/none", headers=headers)

    same, own, none = talk(conversation)
    assert {one.status_code for one in same} == {200} and len({one.json()["id"] for one in same}) == 4
    assert {one.headers["x-request-id"] for one in [*same, none]} == {"mine"}
    assert len(own.headers["x-request-id"]) == 32


def test_the_key():
    async def conversation(client, app):
        found = {}
        for path in ("/", "/health", "/metrics", "/v1/models", "/none"):
            for key in ("", "Bearer wrong", "Basic s€cret", "Bearer s€cret"):
                answer = await client.get(path, headers={"authorization": key.encode()} if key else {})
                found.setdefault(path, []).append(answer.status_code)
        refused = await client.post("/v1/completions", json={"prompt": "The"})
        return found, refused

    found, refused = talk(conversation, make(settings={"api_key": "s€cret"}))
    assert found == {
        "/": [200] * 4, "/health": [200] * 4, "/metrics": [401, 401, 401, 200], "/v1/models": [401, 401, 401, 200],
        "/none": [401, 401, 401, 404],
    }  # fmt: skip
    assert refused.json()["error"]["type"] == "authentication_error"
    with pytest.raises(ValueError, match="api_key"):
        make(settings={"api_key": " "})


def test_limits_of_body_prompt_and_choices():
    app = make(settings={"max_body": 5000}, waiting=4)

    async def conversation(client, app):
        post = lambda **more: client.post("/v1/completions", **more)  # noqa: E731

        async def pieces(n):
            for _ in range(n):
                yield b" " * 1000

        headers = {"content-type": "application/json"}
        large = [
            await post(json={"prompt": "a" * 6000}), await post(content=pieces(7), headers=headers),
            await client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a" * 6000}]}),
        ]  # fmt: skip
        long = await post(json={"prompt": [5] * 600})
        longer = await post(json={"prompt": [5] * 500, "max_tokens": 7584})
        many = await post(json={"prompt": ["a", "b"], "n": 3})
        kinds = [await post(content=b'{"prompt": "a"}', headers={"content-type": kind}) for kind in ("text/plain", "")]
        after = await post(json={"prompt": "The", "max_tokens": 2})
        return large, long, longer, many, kinds, after

    large, long, longer, many, kinds, after = talk(conversation, app)
    assert [one.status_code for one in large] == [413] * 3 and "5000 bytes" in large[0].json()["error"]["message"]
    assert long.status_code == longer.status_code == 400
    assert "600 tokens" in long.json()["error"]["message"] and "500 tokens" in longer.json()["error"]["message"]
    assert many.status_code == 400 and [one.status_code for one in kinds] == [400] * 2
    assert after.status_code == 200


@pytest.mark.parametrize("body", [{"prompt": ""}, {"prompt": []}, {"prompt": [[]]}, {"prompt": "a", "max_tokens": 0}])
def test_an_empty_prompt_ends_nothing(body):
    async def conversation(client, app):
        wrong = await client.post("/v1/completions", json=body)
        return wrong, await client.post("/v1/completions", json={"prompt": "The", "max_tokens": 2})

    wrong, after = talk(conversation)
    assert 400 <= wrong.status_code < 500 and wrong.json()["error"]["message"]
    assert after.status_code == 200


def test_paths_and_methods_that_are_not_there():
    async def conversation(client, app):
        return await client.get("/v2"), await client.get("/v1/completions"), await client.post("/health")

    for answer, status in zip(talk(conversation), (404, 405, 405), strict=True):
        assert answer.status_code == status and answer.json()["error"]["type"]


def test_overload_is_answered_at_once():
    """What runs and waits is finished, the rest hears 429 with Retry-After, and nothing of a refused request stays."""
    app = make(Slow(0.02), rows=1, waiting=2, tokens=8)

    async def conversation(client, app):
        body = {"prompt": "The", "max_tokens": 12, "ignore_eos": True}
        first = asyncio.create_task(client.post("/v1/completions", json=body))
        await until(lambda: app.host.engine and app.host.engine.scheduler.running)
        answers = await asyncio.gather(first, *(client.post("/v1/completions", json=body) for _ in range(4)))
        return answers, await client.post("/v1/completions", json={**body, "prompt": ["a", "b"]})

    answers, later = talk(conversation, app)
    assert sorted(one.status_code for one in answers) == [200, 200, 200, 429, 429] and later.status_code == 200
    refused = next(one for one in answers if one.status_code == 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60 and refused.json()["error"]["type"] == "rate_limit_error"


def test_a_request_that_is_admitted_in_part_is_refused_as_a_whole():
    app = make(Slow(0.02), rows=1, waiting=3, tokens=8)

    async def conversation(client, app):
        body = {"prompt": "The", "max_tokens": 30, "ignore_eos": True}
        first = [asyncio.create_task(client.post("/v1/completions", json=body)) for _ in range(2)]
        await until(lambda: app.host.engine.scheduler.running and app.host.engine.scheduler.waiting)
        refused = await client.post("/v1/completions", json={**body, "prompt": ["a", "b", "c"]})
        await until(lambda: len(app.host.engine.scheduler.waiting) == 1)
        return refused, [one.status_code for one in await asyncio.gather(*first)]

    refused, others = talk(conversation, app)
    assert refused.status_code == 429 and others == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_goes_away_frees_its_blocks(stream, n):
    app = make(Slow(0.02))

    async def conversation(client, app):
        engine, body = app.host.engine, {"prompt": [7] * 40, "max_tokens": 400, "ignore_eos": True, "n": n}
        task = asyncio.create_task(client.post("/v1/completions", json={**body, "stream": stream}))
        await until(lambda: engine.n_steps > 3)
        assert engine.pool.n_used
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        steps = engine.n_steps
        await until(lambda: engine.is_idle)
        assert engine.n_steps - steps <= 2 and engine.pool.n_used == 0
        text = (await client.get("/metrics")).text
        assert f'tfguide:request_success_total{{finished_reason="abort"}} {n}.0' in text

    talk(conversation, app)


def test_a_normal_end_sends_no_abort(monkeypatch):
    app, aborted = make(), []

    async def conversation(client, app):
        service = app.host.served.service
        monkeypatch.setattr(service, "abort", lambda sequences: aborted.extend(sequences))
        for stream in (False, True):
            await client.post("/v1/completions", json={"prompt": "The", "max_tokens": 5, "n": 2, "stream": stream})

    talk(conversation, app)
    assert not aborted


def test_an_engine_that_fails_ends_every_stream():
    """The stream ends with an error event, others with 500, health says so, and no message tells of the inside."""
    app = make(Slow(0.005, fails_at=9))

    async def conversation(client, app):
        body = {"prompt": "The", "max_tokens": 50, "ignore_eos": True}
        both = await asyncio.gather(
            *(client.post("/v1/completions", json={**body, "stream": s}) for s in (True, False))
        )
        later = await client.post("/v1/completions", json=body)
        return *both, later, await client.get("/health"), await client.get("/metrics")

    stream, plain, later, health, metrics = talk(conversation, app)
    found = events(stream.text)
    assert found[0]["choices"] and found[-1]["error"]["type"] == "server_error"
    assert plain.status_code == 500 and later.status_code == 503 and health.status_code == 503
    assert 'finished_reason="error"} 2.0' in metrics.text
    for answer in (stream, plain, later, health):
        assert "secret" not in answer.text and "Traceback" not in answer.text


def test_an_error_of_our_own_says_nothing_of_the_inside(monkeypatch):
    app = make()

    async def conversation(client, app):
        def fail(*_):
            raise KeyError("/secret/path")

        monkeypatch.setattr(app.host.served.clerk, "completion", fail)
        return await client.post("/v1/completions", json={"prompt": "The"}), await client.get("/health")

    answer, health = talk(conversation, app)
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text and health.status_code == 200 and "x-request-id" in answer.headers


def test_before_the_model_is_there():
    may_go_on = threading.Event()

    def load():
        may_go_on.wait(20)
        return make_loaded()

    async def conversation():
        app = make(load=load)
        app.host.start()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            health, page = await client.get("/health"), await client.get("/")
            early = await client.post("/v1/completions", json={"prompt": "The"})
            metrics = await client.get("/metrics")
            may_go_on.set()
            await until(lambda: app.host.state == "ready")
            later = await client.get("/health"), await client.post("/v1/completions", json={"prompt": "The"})
        await app.host.stop()
        return health, page, early, metrics, later

    health, page, early, metrics, later = asyncio.run(conversation())
    assert (health.status_code, health.json()) == (503, {"status": "loading"}) and page.status_code == 200
    assert early.status_code == 503 and early.headers["retry-after"] and early.json()["error"]["code"] == "loading"
    assert "tfguide:num_requests_running 0.0" in metrics.text
    assert [one.status_code for one in later] == [200, 200]


def make_loaded():
    return Loaded(Engine(MODEL, n_blocks=64, rows=8, tokens=64), TOKENIZER, None)


def test_a_model_without_a_template_has_no_chats():
    app = make(load=make_loaded)
    answer = ask("/v1/chat/completions", {"messages": MESSAGES}, app)
    assert answer.status_code == 400 and "template" in answer.json()["error"]["message"]


def test_a_model_that_cannot_be_loaded():
    def load():
        raise ValueError("no such model")

    async def conversation(client, app):
        return app.host.state, (await client.get("/health")).json(), str(app.host.failure)

    assert talk(conversation, make(load=load)) == ("failed", {"status": "failed"}, "no such model")


def test_draining_refuses_and_finishes_and_then_breaks_off():
    app = make(Slow(0.02))

    async def conversation(client, app):
        short = {"prompt": "The", "max_tokens": 10, "ignore_eos": True}
        tasks = [
            asyncio.create_task(client.post("/v1/completions", json={**short, **more}))
            for more in ({}, {"max_tokens": 400, "stream": True}, {"max_tokens": 400})
        ]
        await until(lambda: len(app.host.engine.scheduler.running) == 3)
        drained = asyncio.create_task(app.host.drain(1.0))
        await asyncio.sleep(0.05)
        refused, health = await client.post("/v1/completions", json=short), await client.get("/health")
        assert await drained is False
        await app.host.stop()
        return refused, health, await asyncio.gather(*tasks)

    refused, health, (short, stream, long) = talk(conversation, app)
    assert refused.status_code == 503 and health.json() == {"status": "stopping"}
    assert short.status_code == 200 and long.status_code == 503
    found = events(stream.text)
    assert len(found) > 20 and found[-1]["error"]["code"] == "stopping"


def test_one_call_to_the_event_loop_for_each_step(monkeypatch):
    app = make(Slow(0.001))

    async def conversation(client, app):
        loop, calls = asyncio.get_running_loop(), []
        call = loop.call_soon_threadsafe

        def counted(callback, *arguments, **more):
            if callback.__name__ == "_distribute":
                calls.append(len(arguments[0]))
            return call(callback, *arguments, **more)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        body = {"prompt": "The", "max_tokens": 30, "ignore_eos": True, "n": 6}
        await client.post("/v1/completions", json=body)
        return calls, app.host.engine.n_steps

    calls, n_steps = talk(conversation, app)
    assert sum(calls) == 180 and len(calls) <= n_steps and max(calls) == 6


def test_the_numbers_that_dashboards_know():
    async def conversation(client, app):
        for _ in range(2):
            await client.post("/v1/completions", json={"prompt": [5] * 33, "max_tokens": 5, "ignore_eos": True})
        return await client.get("/metrics")

    answer = talk(conversation)
    found = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    value = lambda name: float(found[f"tfguide:{name}"])  # noqa: E731
    assert answer.headers["content-type"].startswith("text/plain")
    assert value("num_requests_running") == value("num_requests_waiting") == value("kv_cache_usage_perc") == 0
    assert (value("prefix_cache_queries_total"), value("prefix_cache_hits_total")) == (66, 32)
    assert (value("prompt_tokens_total"), value("generation_tokens_total")) == (66, 10)
    assert value('request_success_total{finished_reason="length"}') == 2
    counts = {"time_to_first_token": 2, "inter_token_latency": 8, "e2e_request_latency": 2, "request_queue_time": 2}
    for name, count in counts.items():
        assert value(f"{name}_seconds_count") == count and value(f"{name}_seconds_sum") >= 0


def test_two_applications_count_apart():
    one, other = make(), make()
    ask("/v1/completions", {"prompt": "The", "max_tokens": 5, "ignore_eos": True}, one)
    assert b"generation_tokens_total 5.0" in one.metrics.text()
    assert b"generation_tokens_total 0.0" in other.metrics.text()


def test_a_stream_without_news_is_kept_alive(monkeypatch):
    monkeypatch.setattr(server, "PING_SECONDS", 0.05)
    text = ask("/v1/completions", {"prompt": "The", "max_tokens": 2, "stream": True}, make(Slow(0.2))).text
    assert text.startswith(": still at work\n\n") and events(text)[-1] == "[DONE]"


def test_the_page_is_one_file():
    page = asyncio.run(page_of(make()))
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    text = page.text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in text and "http://" not in text and "https://" not in text and "//cdn" not in text
    assert "/v1/chat/completions" in text


async def page_of(app):
    async with running(app) as client:
        return await client.get("/")
