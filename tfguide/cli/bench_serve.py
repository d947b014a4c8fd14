"""`tfguide bench serve`: servers under an open loop of requests, by the rate at which they arrive."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from tfguide.cli.checks import check_json_file, check_plot_file
from tfguide.loading import find_checkpoint

OURS, LLAMA, STATIC = "tfguide", "llama.cpp", "static"


def add_serve(tasks: Any) -> None:
    """Add it to the subparsers of `tfguide bench`."""
    about = "servers under requests that arrive at random: times to the first and between tokens, and goodput by rate"
    one = tasks.add_parser("serve", help=about, description=f"Measure {about}.")
    one.set_defaults(run=run)
    one.add_argument("--part", choices=("sweep", "prefix"), nargs="+", default=["sweep", "prefix"],
                     help="the rates, or the first token of a prompt that is half known; default: both")  # fmt: skip
    one.add_argument("--contestants", choices=(OURS, LLAMA, STATIC), nargs="*", default=[OURS],
                     help="this package's server, that of llama-cpp-python, static batches of Hugging Face; default: "
                     "tfguide")  # fmt: skip
    one.add_argument("--url", action="append", default=[], metavar="NAME=URL",
                     help="a server that runs already and speaks OpenAI's protocol")  # fmt: skip
    one.add_argument("--options", default="", metavar="WORDS", help="further options of `tfguide serve`, in quotes")
    one.add_argument("--llama-python", metavar="FILE", default=sys.executable,
                     help="an interpreter that has llama-cpp-python[server]; default: this one")  # fmt: skip
    one.add_argument("--model", metavar="PATH", help="a .gguf file; default: SmolLM2-135M-Instruct")
    one.add_argument("--rates", type=float, nargs="+", default=[0.25, 0.5, 1, 2, 4, 8], metavar="N",
                     help="requests a second; default: 0.25 0.5 1 2 4 8")  # fmt: skip
    one.add_argument("--seconds", type=float, default=60.0, metavar="N", help="how long they arrive; default: 60")
    one.add_argument("--most", type=int, default=1000, metavar="N", help="tokens of a prompt or answer; default: 1000")
    one.add_argument("--enough", type=float, default=0.5, metavar="SHARE",
                     help="no higher rates for whom has less goodput; default: 0.5")  # fmt: skip
    one.add_argument("--repeats", type=int, default=5, metavar="N", help="prompts of the part prefix; default: 5")
    one.add_argument("--seed", type=int, default=0, metavar="N", help="of the arrivals, lengths and texts; default: 0")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE; the part that is not measured is kept")
    one.add_argument("--plot", metavar="FILE", help="draw latency by throughput to FILE: .svg, .png or .pdf")


def run(options: argparse.Namespace) -> int:
    """Print the rows of the parts that were asked for; returns 0."""
    from tfguide.bench.run import read_result, write_json
    from tfguide.bench.serve import bench_prefix, bench_serve, table
    from tfguide.bench.timing import machine
    from tfguide.text import read_tokenizer

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    check_json_file(options.json)
    check_plot_file(options.plot)
    path = find_checkpoint(options.model)
    tokenizer = read_tokenizer(path)
    contestants, about = _contestants(options, path, tokenizer)
    result = {"task": "serve", "machine": machine(), "limits": {}, "rows": []}
    if options.json:
        result |= read_result(options.json, result["machine"])
    result |= {"model": path.stem, "contestants": about}

    def keep(found):
        if options.json:
            write_json(result | found, options.json)
        if found.get("rows"):
            last = found["rows"][-1]
            print(f"tfguide: measured {last['name']} at {last['rate']:g} a second", file=sys.stderr)

    if "sweep" in options.part:
        result |= bench_serve(
            contestants, tokenizer, options.rates, options.seconds, options.seed, options.most, options.enough, keep
        )
    if "prefix" in options.part:
        result["prefix"] = bench_prefix(contestants, tokenizer, options.repeats, options.seed)
        keep({})
    print(table(result))
    if options.plot and result["rows"]:
        from tfguide.figures.serving import latency_by_throughput

        latency_by_throughput(result).savefig(options.plot)
    return 0


def _contestants(options, path, tokenizer):
    """What is measured, and what the result says of each."""
    from tfguide.bench.servers import Remote, llama_server, llama_version, our_server
    from tfguide.bench.static import ROWS, StaticBatches

    found, about = [], {}
    for name in options.contestants:
        if name == OURS:
            found.append(our_server(path, shlex.split(options.options)))
            about[found[-1].name] = {"options": options.options}
        elif name == LLAMA:
            special = [token for token, one in tokenizer.get_added_tokens_decoder().items() if one.special]
            about_it = {"llama-cpp-python": llama_version(options.llama_python)}
            found.append(llama_server(path, options.llama_python, special))
            about[found[-1].name] = about_it
        else:
            found.append(StaticBatches(path, tokenizer))
            about[found[-1].name] = {"rows": ROWS, "dtype": "float32"}
    for one in options.url:
        name, equals, url = one.partition("=")
        if not equals or not url.startswith("http://"):
            raise ValueError(f"--url must be NAME=http://HOST:PORT, got {one}")
        found.append(Remote(name, url, {"temperature": 0, "ignore_eos": True}))
        about[name] = {"url": "given"}
    if not found:
        raise ValueError("--contestants or --url must name what is measured")
    return found, about
