"""A server on a socket of loopback, and real clients: the package openai, LangChain, curl, and a browser."""

import asyncio
import contextlib
import io
import json
import logging
import shutil
import subprocess
import time
import urllib.request

import openai
import pytest

from tests.book.chromium import PHONE, complain
from tests.serving.applications import ENDS, NAME, TEMPLATE, TOKENIZER, Slow, events, make
from tests.serving.test_server import alone
from tfguide.serving.running import in_thread

MESSAGES = [{"role": "user", "content": "The dog."}]


@pytest.fixture(scope="module")
def app():
    return make(waiting=512)


@pytest.fixture(scope="module")
def url(app):
    with in_thread(app) as url:
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=60) as client:
        yield client


def greedy(n=11):
    return alone(TEMPLATE.render(MESSAGES), n, ENDS, special=False, temperature=0.0)[0]


def test_openai_completions_and_chats(client):
    asked = dict(model=NAME, temperature=0, max_tokens=11)
    found = client.chat.completions.create(messages=MESSAGES, **asked)
    assert found.choices[0].message.content == greedy() and found.choices[0].message.role == "assistant"
    assert found.usage.completion_tokens == 11 and found.choices[0].finish_reason == "length"
    assert found.usage.prompt_tokens_details.cached_tokens >= 0 and found._request_id
    plain = client.completions.create(prompt="The dog.", **asked)
    assert plain.choices[0].text == alone("The dog.", 11, [0], temperature=0.0)[0]
    several = client.completions.create(prompt=["The", [5, 6]], n=2, logprobs=2, echo=True, **asked)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert len(several.choices[0].logprobs.tokens) == 11 + len(TOKENIZER.encode("The").ids)
    shown = client.chat.completions.create(messages=MESSAGES, logprobs=True, top_logprobs=3, **asked)
    assert [len(one.top_logprobs) for one in shown.choices[0].logprobs.content] == [3] * 11


def test_openai_streams(client):
    asked = dict(model=NAME, temperature=0, max_tokens=11, stream=True, stream_options={"include_usage": True})
    chunks = list(client.chat.completions.create(messages=MESSAGES, n=2, **asked))
    for index in range(2):
        own = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert "".join(choice.delta.content or "" for choice in own) == greedy()
        assert [choice.delta.role for choice in own if choice.delta.role] == ["assistant"]
        assert own[-1].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 22 and not chunks[-1].choices
    plain = list(client.completions.create(prompt="The dog.", **asked))
    assert "".join(chunk.choices[0].text for chunk in plain[:-1]) == alone("The dog.", 11, [0], temperature=0.0)[0]


def test_openai_models_and_extras(client):
    assert [model.id for model in client.models.list()] == [NAME]
    assert client.models.retrieve(NAME).owned_by == "tfguide"
    more = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True}
    found = client.completions.create(model=NAME, prompt="The", max_tokens=7, stop=None, seed=3, extra_body=more)
    assert found.usage.completion_tokens == 7


def test_openai_errors(client):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        client.completions.create(model="gpt-4", prompt="The")
    with pytest.raises(openai.BadRequestError, match="600 tokens") as caught:
        client.completions.create(model=NAME, prompt=[5] * 600)
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.UnprocessableEntityError, match="temperature") as caught:
        client.completions.create(model=NAME, prompt="The", temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model=NAME, prompt="a" * (5 << 20))
    assert caught.value.status_code == 413
    assert client.completions.create(model=NAME, prompt="The", max_tokens=1).choices


def test_openai_repeats_what_was_refused_for_now():
    """429 with Retry-After: the client waits, asks again, and succeeds."""
    app = make(Slow(0.02), rows=1, waiting=1, tokens=8)
    with in_thread(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        asked = dict(model=NAME, prompt="The", extra_body={"ignore_eos": True})
        streams = []
        for _ in range(2):
            streams.append(client.completions.create(stream=True, max_tokens=25, **asked))
            next(iter(streams[0]))
        begin = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(**asked)
        assert time.monotonic() - begin < 0.3 and caught.value.response.headers["retry-after"]
        assert client.with_options(max_retries=2).completions.create(max_tokens=2, **asked).choices
        for stream in streams:
            list(stream)


def test_the_logging_of_the_process_stays_as_it_is():
    """uvicorn's own settings close the handlers of every logger, those of TensorFlow with the terminal behind it."""

    class Kept(logging.Handler):
        is_closed = False

        def close(self):
            self.is_closed = True
            super().close()

    handler, stream = Kept(), io.StringIO()
    with contextlib.redirect_stdout(stream):
        for access_log in (False, True, True):
            with in_thread(make(), access_log=access_log) as url:
                urllib.request.urlopen(f"{url}/health").close()
    assert not handler.is_closed
    assert stream.getvalue().count('"GET /health HTTP/1.1" 200') == 2


def test_the_key():
    with in_thread(make(settings={"api_key": "secret"})) as url:
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").models.list()
        assert openai.OpenAI(base_url=f"{url}/v1", api_key="secret").models.list().data


def test_an_error_in_a_stream():
    with in_thread(make(Slow(0.005, fails_at=6))) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        got, asked = "", dict(model=NAME, prompt="The", max_tokens=50, temperature=0)
        with pytest.raises(openai.APIError, match="could not complete"):
            for chunk in client.completions.create(stream=True, **asked):
                got += chunk.choices[0].text
        assert got == alone("The", 5, [], temperature=0.0)[0].rstrip("\ufffd") != ""
        with pytest.raises(openai.InternalServerError, match="engine has failed"):
            client.completions.create(model=NAME, prompt="The")


def test_many_streams_at_once_are_those_alone(url):
    """Twenty streams, of which every fourth is broken off: the others have the text that they have alone."""
    prompts = [f"The {'dog.' * (i % 5)} quick {i % 7}" for i in range(20)]

    async def one(client, i):
        asked = dict(model=NAME, prompt=prompts[i], max_tokens=40, temperature=0, stream=True)
        text, stream = "", await client.completions.create(**asked, extra_body={"ignore_eos": True})
        async for chunk in stream:
            text += chunk.choices[0].text
            if i % 4 == 0 and len(text) > 5:
                await stream.close()
                return None
        return text

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            return await asyncio.gather(*(one(client, i) for i in range(20)))

    found = asyncio.run(all_of_them())
    for i, text in enumerate(found):
        assert text == (None if i % 4 == 0 else alone(prompts[i], 40, [], temperature=0.0)[0])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_blocks(stream):
    app = make(Slow(0.03))
    with in_thread(app) as url:
        engine, body = app.host.engine, {"prompt": [7] * 40, "max_tokens": 400, "ignore_eos": True, "stream": stream}
        with subprocess.Popen(curl(url, "/v1/completions", json.dumps(body)), stdout=subprocess.DEVNULL) as process:
            wait_until(lambda: engine.n_steps > 5)
            process.kill()
        steps = engine.n_steps
        wait_until(lambda: engine.is_idle)
        assert engine.n_steps - steps <= 3  # one may have begun while the connection was closed
        assert engine.pool.n_used == 0


def wait_until(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.002)


def curl(url, path, data, *more):
    return ["curl", "-sN", "-m", "60", f"{url}{path}", "-H", "content-type: application/json", "-d", data, *more]


def run_curl(*arguments):
    return subprocess.run(curl(*arguments), capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(url):
    body = {"messages": MESSAGES, "temperature": 0, "max_tokens": 11}
    found = json.loads(run_curl(url, "/v1/chat/completions", json.dumps(body)))
    assert found["choices"][0]["message"]["content"] == greedy()
    lines = events(run_curl(url, "/v1/chat/completions", json.dumps({**body, "stream": True})))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in lines[:-1]) == greedy()
    heads = run_curl(url, "/v1/chat/completions", json.dumps(body), "-i", "-H", "x-request-id: abc").partition("\n\n")[
        0
    ]
    assert "200 OK" in heads and "x-request-id: abc" in heads and "server:" not in heads.lower()
    assert json.loads(run_curl(url, "/v1/chat/completions", "{"))["error"]["code"] == "json"
    form = subprocess.run(["curl", "-s", f"{url}/v1/completions", "-d", "prompt=a"], capture_output=True, text=True)
    assert "content-type: application/json" in json.loads(form.stdout)["error"]["message"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sends_what_is_too_much(url, tmp_path):
    large = tmp_path / "large.json"
    large.write_text(json.dumps({"prompt": "a" * (8 << 20)}))
    for more in ((), ("-H", "transfer-encoding: chunked"), ("-H", "expect:")):
        shown = run_curl(url, "/v1/completions", f"@{large}", "-w", "%{http_code}", "-o", str(tmp_path / "out"), *more)
        assert shown == "413" and "error" in json.loads((tmp_path / "out").read_text())


def test_langchain(url):
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=NAME, base_url=f"{url}/v1", api_key="none", temperature=0, max_tokens=11)
    answer = model.invoke([("user", "The dog.")])
    assert answer.content == greedy() and answer.usage_metadata["output_tokens"] == 11
    chunks = list(model.stream([("user", "The dog.")]))
    assert "".join(chunk.content for chunk in chunks) == greedy()
    both = asyncio.run(model.abatch([[("user", "The dog.")]] * 2))
    assert [one.content for one in both] == [greedy()] * 2


class Window:
    """A page of the server, and what went wrong in it."""

    def __init__(self, browser, url, width=1280, height=800):
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page, self.found, self.url = self.context.new_page(), [], url

    def __enter__(self):
        page, found = self.page, self.found
        page.on("pageerror", lambda error: found.append(f"a script failed: {error}"))
        page.on("console", lambda message: message.type == "error" and found.append(f"console: {message.text}"))
        page.on("request", lambda asked: asked.url.startswith((self.url, "data:")) or found.append(asked.url))
        page.goto(self.url)
        page.wait_for_selector("#ideas:not([hidden])")
        return page

    def __exit__(self, kind, *_):
        self.context.close()
        if kind is None:
            complain(self.found)


def say(page, text):
    page.fill("#input", text)
    page.press("#input", "Enter")


def answers(page):
    return page.locator(".answer .text").all_inner_texts()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, PHONE["width"]])
def test_the_page_chats(browser, url, width):
    with Window(browser, url, width) as page:
        page.wait_for_selector(f"h1:text-is('{NAME}')")
        page.click("#more")
        page.fill("#temperature", "0")
        page.fill("#most", "11")
        page.click("#more")
        say(page, "The dog.")
        page.wait_for_selector(".again")
        assert answers(page)[0].split() == greedy().split()
        about = page.inner_text(".about span")
        assert "first token after" in about and "11 tokens" in about and "tokens/s" in about
        say(page, "And?")
        page.wait_for_selector(".answer:nth-of-type(2) .again")
        assert len(answers(page)) == 2 and page.locator(".again").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click(".again")
        page.wait_for_selector(".answer:nth-of-type(2) .again")
        page.click("#fresh")
        assert page.locator(".user").count() == 0 and page.is_visible("#empty")


@pytest.mark.browser
def test_the_page_stops_an_answer(browser):
    app = make(Slow(0.03, ends=False))
    with in_thread(app) as url, Window(browser, url) as page:
        say(page, "The dog.")
        page.wait_for_selector("#stop:visible")
        wait_until(lambda: app.host.engine.n_steps > 5)
        page.click("#stop")
        page.wait_for_selector(".about span:has-text('stopped')")
        wait_until(lambda: app.host.engine.is_idle)
        assert app.host.engine.pool.n_used == 0 and page.is_visible("#send")


@pytest.mark.browser
def test_the_page_shows_markup_as_text(browser, url):
    """What a model says makes no element but a paragraph, code and bold."""
    markup = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
    text = f"{markup} **bold** `code`\n```html\n<b>x</b>\n```\nend"
    with Window(browser, url) as page:
        page.route("**/v1/chat/completions", lambda route: route.fulfill(
            content_type="text/event-stream",
            body="".join(f"data: {json.dumps(chunk)}\n\n" for chunk in (
                {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            )) + "data: [DONE]\n\n",
        ))  # fmt: skip
        say(page, "<b>Hi</b>")
        page.wait_for_selector(".again")
        names = set(page.locator(".text *").evaluate_all("nodes => nodes.map(node => node.tagName)"))
        assert names == {"P", "CODE", "STRONG", "PRE"} and page.inner_text(".text pre") == "<b>x</b>"
        assert page.inner_text(".user") == "<b>Hi</b>" and '<img src=x onerror="' in answers(page)[0]
        assert page.evaluate("window.hacked") is None


@pytest.mark.browser
def test_the_page_asks_for_the_key_and_says_what_is_wrong(browser):
    with in_thread(make(settings={"api_key": "secret"})) as url:
        window = Window(browser, url)
        with window as page:
            page.wait_for_selector("#key:visible")
            say(page, "Hi")
            page.wait_for_selector(".failed:has-text('authorization')")
            page.fill("#key", "secret")
            page.press("#key", "Enter")
            page.wait_for_selector(f"h1:text-is('{NAME}')")
            page.click(".again")
            page.wait_for_selector(".about:has-text('tokens/s')")
            assert all("401" in one for one in window.found)  # the browser's own line for each refused request
            window.found.clear()
