"""A small model behind an application: in this process without a socket, or behind a real one on loopback."""

import asyncio
import contextlib
import json
import time

import httpx

import tfguide
import tfguide.torch as tg
from tests.support import random_weights
from tests.text.gguf_files import byte_level
from tfguide.serving import Engine
from tfguide.serving.hosting import Loaded
from tfguide.serving.server import create_app
from tfguide.text import ChatTemplate, tokenizer_from_metadata

NAME = "tiny"
TOKENIZER = tokenizer_from_metadata(byte_level("smollm"))
TEMPLATE = ChatTemplate(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG = tfguide.ModelConfig(
    kind="decoder", d_model=32, n_layers=2, n_heads=2, d_ff=48, vocab_size=TOKENIZER.get_vocab_size(),
    max_positions=509, norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False,
    ffn_bias=False, eos_token_id=0,
)  # fmt: skip
MODEL = tg.from_weights(CONFIG, random_weights(CONFIG))
ENDS = [0, 2]  # of a chat: the end of a text, and that of a message


class Slow:
    """A model that takes a while for each step, and fails at one of them if it is told to; ends: whether texts end."""

    def __init__(self, seconds=0.01, fails_at=None, ends=True):
        self.config, self.seconds, self.fails_at, self.n_steps = MODEL.config, seconds, fails_at, 0
        self.ends = ends

    def new_paged_cache(self, *sizes):
        return MODEL.new_paged_cache(*sizes)

    def new_storage(self, *sizes):
        return MODEL.new_storage(*sizes)

    def decode_rows(self, *arguments):
        time.sleep(self.seconds)
        self.n_steps += 1
        if self.n_steps == self.fails_at:
            raise RuntimeError("the memory at /secret/path is broken")
        logits = MODEL.decode_rows(*arguments)
        if not self.ends:
            logits[:, ENDS] = -1e9
        return logits


def make(model=MODEL, load=None, settings=None, **sizes):
    """An application over a model; sizes: of its engine."""
    sizes = {"n_blocks": 64, "rows": 8, "tokens": 64, "waiting": 64, **sizes}
    made = load or (lambda: Loaded(Engine(model, **sizes), TOKENIZER, TEMPLATE))
    return create_app(made, **{"name": NAME, **(settings or {})})


@contextlib.asynccontextmanager
async def running(app):
    """A client of an application that has started, without a socket."""
    app.host.start()
    while app.host.state == "loading":
        await asyncio.sleep(0.01)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
        try:
            yield client
        finally:
            await app.host.stop()


def talk(conversation, app=None):
    """The result of `conversation(client, app)`, an async function."""
    app = app or make()

    async def all_of_it():
        async with running(app) as client:
            return await conversation(client, app)

    return asyncio.run(all_of_it())


def ask(path, body, app=None, **more):
    """The response to one request."""
    return talk(lambda client, app: client.post(path, json=body, **more), app)


def events(text):
    """The objects of a stream, "[DONE]" last."""
    lines = [line for line in text.split("\n\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), text
    return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


async def until(is_so, seconds=20):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)
