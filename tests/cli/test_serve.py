"""`tfguide serve`: a real process, from its first line to its end by a signal."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager

import openai
import pytest

from tests.cli.test_chat import write_model
from tests.serving.applications import events
from tfguide import cli
from tfguide.generation import generate
from tfguide.generation.sampling import Sampling
from tfguide.loading import find_checkpoint, load_any, open_checkpoint
from tfguide.text import read_template, read_tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("serve"), 4096)


@contextmanager
def command(*options):
    """The command, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tfguide", "serve", "--port", "0", *map(str, options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert " answers at http://127.0.0.1:" in line, (line, process.stderr.read() if not line else "")
        yield process, line.split(" answers at ")[1].split()[0], line.split(" answers at ")[0]
    finally:
        process.kill()
        process.communicate()


def post(url, path, **body):
    asked = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    return urllib.request.urlopen(asked, timeout=60)


LONG = {"prompt": "The dog.", "max_tokens": 4000, "ignore_eos": True}


def test_a_signal_lets_what_runs_end_and_refuses_the_rest(checkpoint):
    with command("--checkpoint", checkpoint, "--grace", 1.5) as (process, url, name):
        assert name == "model" and json.load(urllib.request.urlopen(f"{url}/health"))["status"] == "ready"
        read, began = [], threading.Event()

        def stream(**more):
            with post(url, "/v1/completions", stream=True, **{**LONG, **more}) as answer:
                text = answer.readline().decode()
                began.set()
                read.append(text + answer.read().decode())

        threads = [threading.Thread(target=stream, kwargs=more) for more in ({}, {"max_tokens": 60})]
        for thread in threads:
            began.clear()
            thread.start()
            began.wait(20)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(url, "/v1/completions", prompt="The")
        assert refused.value.code == 503 and refused.value.headers["retry-after"]
        for thread in threads:
            thread.join(20)
        assert process.wait(20) == 0 and time.monotonic() - begin < 8
        short, long = sorted((events(text) for text in read), key=len)
        assert short[-1] == "[DONE]" and short[-2]["choices"][0]["finish_reason"] == "length"
        assert long[-1]["error"]["code"] == "stopping"
        assert process.stderr.read() == "loading model ...\n"


def test_without_requests_it_ends_at_once(checkpoint):
    for number in (signal.SIGTERM, signal.SIGINT):
        with command("--checkpoint", checkpoint, "--name", "mine", "--api-key", "k") as (process, url, name):
            assert name == "mine"
            assert openai.OpenAI(base_url=f"{url}/v1", api_key="k").models.list().data[0].id == "mine"
            begin = time.monotonic()
            process.send_signal(number)
            assert process.wait(10) == 0 and time.monotonic() - begin < 3


def test_requests_are_printed_if_asked_for(checkpoint):
    with command("--checkpoint", checkpoint, "--access-log") as (process, url, _):
        urllib.request.urlopen(f"{url}/v1/models").close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert '"GET /v1/models HTTP/1.1" 200' in process.stdout.read()
        assert process.stderr.read() == "loading model ...\n"


def test_a_second_signal_ends_it_at_once(checkpoint):
    with (
        command("--checkpoint", checkpoint, "--grace", 60) as (process, url, _),
        post(url, "/v1/completions", stream=True, **LONG) as answer,
    ):
        answer.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--checkpoint", "/nowhere"], "/nowhere"), (["--rows", "0"], "--rows must be at least 1"),
        (["--rows", "8", "--tokens", "4"], "--tokens must be at least 8"), (["--max-body", "0"], "--max-body"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"), (["--api-key", " "], "api_key"),
        (["--grace", "-1"], "--grace"), (["--memory", "0"], "--memory"), (["--memory", "0.0000001"], "a block of 16"),
    ],
)  # fmt: skip
def test_mistakes_are_said_in_a_line(options, message, checkpoint, capsys):
    named = [] if "--checkpoint" in options else ["--checkpoint", str(checkpoint)]
    assert cli.main(["serve", "--port", "0", *named, *options]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("tfguide: ") and message in last


def test_a_port_that_is_taken(checkpoint, capsys):
    with command("--checkpoint", checkpoint) as (_, url, _):
        port = url.rpartition(":")[2]
        assert cli.main(["serve", "--checkpoint", str(checkpoint), "--port", port]) == 2
        assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client", "pydantic"])
def test_a_missing_package_is_named_with_its_extra(package):
    code = f"import sys; sys.modules['{package}'] = None; from tfguide.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"tfguide: the server needs the package {package}: pip install 'tfguide[serve]'\n"


@pytest.mark.slow
def test_smollm_answers_as_generate():
    """The model of the book, as the README shows it."""
    checkpoint = open_checkpoint(find_checkpoint(None))
    tokenizer, messages = read_tokenizer(checkpoint), [{"role": "user", "content": "Name three colours."}]
    prompt = tokenizer.encode(read_template(checkpoint).render(messages), add_special_tokens=False).ids
    new = generate(load_any(checkpoint, dtype="int8"), [prompt], 24, sampling=Sampling(temperature=0.0))[0]
    with command("--dtype", "int8") as (process, url, name):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        found = client.chat.completions.create(model=name, messages=messages, temperature=0, max_tokens=24)
        assert found.choices[0].message.content == tokenizer.decode(new)
        assert found.usage.completion_tokens == len(new)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
