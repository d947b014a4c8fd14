"""`tfguide serve`: a model behind OpenAI's interface, and a page to chat with it."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tfguide.checks.values import check_count, check_number
from tfguide.cli.options import add_model_options, add_ray_options, load, replicas_of, starting
from tfguide.cli.processes import add_parallel_option, in_processes
from tfguide.loading import find_checkpoint, open_checkpoint
from tfguide.serving.engine import Engine
from tfguide.serving.packages import check_packages
from tfguide.text import read_template, read_tokenizer

EXAMPLES = (
    ("serve a model to many clients", "tfguide serve --dtype int8"),
    ("the same by two engines, on a cluster", "tfguide serve --dtype int8 --ray --replicas 2"),
    ("the same by two processes together", "tfguide serve --tensor-parallel 2"),
)
KEY = "TFGUIDE_API_KEY"
ABOUT = """\
Serve a model to many clients at once, behind OpenAI's interface: /v1/chat/completions, /v1/completions, /v1/models,
/tokenize, /detokenize, /health, /metrics. At / is a page to chat with it. Ctrl-C or SIGTERM ends the server when what
runs has ended.

With --ray, --replicas N engines answer, on the Ray cluster that RAY_ADDRESS names or on this machine. Each loads the
model, which must lie at the same path on every machine, and has a cache, rows and a queue of its own. Prefixes are
shared within a replica only, and the requests of one chat may go to different ones. A replica that dies is replaced;
its streams end with an error. All requests come through this process."""


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of the command line."""
    serve = commands.add_parser(
        "serve", help="serve a model to many clients", description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    serve.set_defaults(run=run)
    add_model_options(serve)
    add = serve.add_argument
    add("--name", help="of the model, for clients; default: that of the checkpoint")
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, so that this machine alone reaches it")
    add("--port", type=int, default=8000, metavar="N", help="default: 8000; 0 takes a free one")
    add("--api-key", metavar="KEY", help=f"what clients must bring; default: ${KEY}; without: nothing")
    add("--rows", type=int, default=64, metavar="N", help="texts that are continued at once; default: 64")
    add(
        "--tokens", type=int, metavar="N",
        help="tokens that a step computes: with more, prompts are read sooner and others wait longer; default: 128, "
        "at least --rows",
    )  # fmt: skip
    add("--waiting", type=int, default=1024, metavar="N", help="texts that may wait; default: 1024, then 429")
    add("--memory", type=float, metavar="GIB", help="of the cache; default: 1024 tokens for each row, at most 2")
    add("--max-length", type=int, metavar="N", help="tokens of a text with its answer; default: what the model has")
    add("--max-body", type=float, default=4, metavar="MIB", help="of a request; default: 4, above it 413")
    add("--grace", type=float, default=30, metavar="S", help="seconds for what runs when the server ends; default: 30")
    add_parallel_option(serve)
    add_ray_options(serve)
    add("--access-log", action="store_true", help="print a line for each request")


def run(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; returns 0."""
    check_packages()
    if options.tensor_parallel is None:
        return _serve(options)
    if options.ray:
        raise ValueError("--tensor-parallel divides the model of this server, got --ray as well")
    return in_processes(options, partial(_serve_together, options))


def _serve_together(options, group):
    """Serve in process 0; the others compute their parts of each step."""
    from tfguide.torch.parallel.leading import Leader, follow

    with starting():
        model = load(options, open_checkpoint(find_checkpoint(options.checkpoint)), group)
    if group.rank:
        follow(model)
        return 0
    leader = Leader(model)
    try:
        return _serve(options, leader)
    finally:
        leader.dismiss()


def _serve(options, model=None):
    replicas = replicas_of(options)
    from tfguide.serving.running import Server, address, listen
    from tfguide.serving.server import create_app

    path = find_checkpoint(options.checkpoint)
    name = options.name or path.stem
    settings = {"name": name, "max_body": _bytes("--max-body", options.max_body, 20)}
    key = options.api_key or os.environ.get(KEY) or None
    if not 0 <= options.grace < math.inf:
        raise ValueError(f"--grace must be at least 0 and finite, got {options.grace}")
    limits = _limits(options)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(options.host, options.port))
        print(f"loading {name} ...", file=sys.stderr, flush=True)
        load_one = partial(_load, options, path, model)
        if replicas is None:
            app = create_app(load_one, api_key=key, **settings)
        else:
            app = _front(stack, replicas, options.cpus, load_one, settings, key, limits)
        where = address(listening)
        server = Server(
            app, options.grace, lambda: print(f"{name} answers at {where} (Ctrl-C ends it)", flush=True),
            options.access_log,
        )  # fmt: skip
        server.run(sockets=[listening])
    if app.host.failure is not None:
        raise app.host.failure
    return 0


def _front(stack, n, cpus, load_one, settings, key, limits):
    """The application over n replicas; the cluster ends with the stack."""
    from tfguide.serving.cluster import cluster
    from tfguide.serving.front import Front
    from tfguide.serving.replicas import RayReplicas
    from tfguide.serving.server import Settings

    Settings(api_key=key, **settings)  # is checked before the cluster is started
    share = stack.enter_context(cluster(n, cpus))
    replicas = RayReplicas(load_one, settings, n, share, limits["rows"] + limits["waiting"])
    return Front(replicas, api_key=key, max_body=settings["max_body"])


def _load(options: argparse.Namespace, path: Path, model: Any = None):
    from tfguide.serving.hosting import Loaded

    with starting():
        checkpoint = open_checkpoint(path)
        tokenizer = read_tokenizer(checkpoint)
        try:
            template = read_template(checkpoint)
        except ValueError as error:
            print(f"tfguide: no chats: {error}", file=sys.stderr)
            template = None
        model = load(options, checkpoint) if model is None else model
    memory = None if options.memory is None else _bytes("--memory", options.memory, 30)
    engine = Engine(
        model, memory=memory, max_length=options.max_length, cache_dtype=options.cache_dtype, **_limits(options)
    )
    return Loaded(engine, tokenizer, template)


def _limits(options):
    """The sizes of the engine's scheduler, checked before anything is loaded."""
    rows, waiting = check_count("--rows", options.rows), check_count("--waiting", options.waiting)
    tokens = None if options.tokens is None else check_count("--tokens", options.tokens, rows)
    return {"rows": rows, "tokens": tokens, "waiting": waiting}


def _bytes(name, number, power):
    check_number(name, number, above=0)
    return int(number * 2**power)
