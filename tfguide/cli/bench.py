"""`tfguide bench`: time this package, and others in turn with it, at decoding, prompts, many rows, long texts, experts.

What is measured of one model file stands in `bench_files`.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from tfguide.cli.bench_files import add_tasks
from tfguide.cli.bench_serve import add_serve
from tfguide.cli.bench_together import add_waterfall
from tfguide.cli.checks import check_json_file, use_llama_cpp
from tfguide.config import ModelConfig
from tfguide.dtypes import CACHE_DTYPES
from tfguide.loading import DTYPES, FRAMEWORKS

_MODELS = "S (125M), S-MoE (S with 2 of 8 experts, 295M), M (1.1B), or a checkpoint folder"
EXAMPLES = (("time this package", "tfguide bench decode --dtype float32 int8"),)


def add_commands(commands: Any) -> None:
    """Add the command with its tasks to the subparsers of the command line."""
    bench = commands.add_parser("bench", help="time this package", description="Time this package against others.")
    tasks = bench.add_subparsers(required=True, metavar="task")
    for task, about in (("decode", "tokens a second after the prompt"), ("prefill", "seconds to read a prompt")):
        one = _add_task(tasks, task, about, 64)
        one.add_argument("--prompt", type=int, nargs="+", default=[128] if task == "decode" else [128, 1024])
        one.add_argument("--memory", action="store_true", help="measure peak memory too, in separate processes")
        one.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        one.add_argument(
            "--measured", metavar="FILE", help="print predictions too, from what `tfguide calibrate --json FILE` wrote"
        )
    rows = _add_task(tasks, "rows", "tokens a second of steps with many rows", 16)
    rows.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="default: 1 to 64")
    rows.add_argument("--prompt", type=int, default=16, help="tokens of each row before the steps; default: 16")
    rows.add_argument("--read", type=int, default=512, help="tokens of the prompt whose speed bounds; default: 512")
    lengths = _add_task(tasks, "lengths", "steps and prompts of long texts", 8)
    lengths.add_argument("--lengths", type=int, nargs="+", default=[128, 1024, 4000, 8000])
    lengths.add_argument("--cache-dtype", choices=CACHE_DTYPES, nargs="+", help="default: what the model takes")
    lengths.add_argument("--prompt-repeats", type=int, default=1, help="timed rounds of reading; default: 1")
    _add_experts(tasks)
    add_tasks(tasks)
    add_waterfall(tasks)
    add_serve(tasks)
    _add_caches(tasks)
    _add_heads(tasks)


def _add_experts(tasks):
    about = "steps of a mixture by the number of experts that they read"
    one = tasks.add_parser("experts", help=about, description=f"Measure {about}, from 1 to all, without a framework.")
    one.set_defaults(run=run_experts, task="experts")
    one.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"])
    one.add_argument("--model", default="S-MoE", help=f"{_MODELS}; default: S-MoE")
    one.add_argument("--new-tokens", type=int, default=16, help="steps of a round; default: 16")
    one.add_argument("--repeats", type=int, default=9, help="rounds that count, after 2 that do not; default: 9")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE")


def run_experts(options: argparse.Namespace) -> int:
    """Print a row for each number of experts; returns 0."""
    from tfguide.bench.experts import bench_experts, table
    from tfguide.bench.models import find_model

    _check_counts(options)
    config, folder = find_model(options.model)
    check_json_file(options.json)
    print(table(bench_experts(
        config, options.dtype, options.new_tokens, options.repeats, _keeper(options), folder,
    )))  # fmt: skip
    return 0


def _add_caches(tasks):
    about = "perplexity, bytes and steps of each type of cache"
    one = tasks.add_parser("caches", help=about, description=f"Measure {about}, on Python's documentation.")
    one.set_defaults(run=run_caches)
    one.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    one.add_argument("--dtype", choices=DTYPES, help="type of the weights; default: what the model holds")
    one.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    one.add_argument("--cache-dtype", choices=CACHE_DTYPES, nargs="+", default=list(CACHE_DTYPES))
    one.add_argument("--positions", type=int, default=2048, help="tokens of the text; default: 2048")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE")


def run_caches(options: argparse.Namespace) -> int:
    """Print the rows of the types of cache; returns 0."""
    from tfguide.bench.caches import measure_caches, read_documentation, table
    from tfguide.bench.run import write_json
    from tfguide.bench.timing import machine
    from tfguide.loading import find_checkpoint, load_framework, load_model

    if options.positions < 1:
        raise ValueError(f"--positions must be at least 1, got {options.positions}")
    check_json_file(options.json)
    path = find_checkpoint(options.model)
    tokens = read_documentation(path, options.positions)
    tg = load_framework(options.framework)
    model = tg.accelerate(load_model(tg, path, options.dtype))
    rows = measure_caches(model, tokens, options.cache_dtype)
    if options.json:
        kind = {"framework": options.framework, "dtype": options.dtype or "as it is", "model": path.name}
        write_json({"task": "caches", "machine": machine(False), **kind, "rows": rows}, options.json)
    print(table(rows))
    return 0


def _add_heads(tasks):
    about = "steps and caches by the number of key/value heads"
    one = tasks.add_parser("heads", help=about, description=f"Measure {about}, with random weights.")
    one.set_defaults(run=run_heads)
    one.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    one.add_argument("--dtype", choices=DTYPES, default="int8", help="type of the weights; default: int8")
    one.add_argument("--model", default="S", help="whose sizes are taken: S, M, or a checkpoint folder; default: S")
    one.add_argument("--kv-heads", type=int, nargs="+", help="default: as many as query heads, the model's own, and 1")
    one.add_argument("--lengths", type=int, nargs="+", default=[128, 1024, 4000, 8000])
    one.add_argument("--new-tokens", type=int, default=8, help="steps of a round; default: 8")
    one.add_argument("--repeats", type=int, default=5, help="rounds that count, after 2 that do not; default: 5")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE")


def run_heads(options: argparse.Namespace) -> int:
    """Print the rows of the numbers of key/value heads; returns 0."""
    from tfguide.bench.heads import bench_heads, table
    from tfguide.bench.models import find_model
    from tfguide.bench.run import write_json

    check_json_file(options.json)
    config, _ = find_model(options.model)
    kv_heads = options.kv_heads or [config.n_heads, config.n_kv_heads, 1]
    result = bench_heads(
        config, options.framework, options.dtype, kv_heads, options.lengths, options.new_tokens, options.repeats
    )
    if options.json:
        write_json(result | {"model": os.path.basename(os.path.normpath(options.model))}, options.json)
    print(table(result))
    return 0


def _add_task(tasks, task, about, new_tokens):
    one = tasks.add_parser(task, help=about, description=f"Measure {about}.")
    one.set_defaults(run=run, task=task)
    peers = "llama.cpp" if task in ("rows", "lengths") else "Hugging Face, KerasHub, llama.cpp and others"
    one.add_argument("--peers", action="store_true", help=f"time {peers} too")
    one.add_argument("--llama-cpp", metavar="FOLDER", help="a folder with the llama_cpp that is timed, a peer")
    one.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=["torch"])
    one.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"])
    one.add_argument("--model", default="S", help=f"{_MODELS}; default: S")
    one.add_argument("--new-tokens", type=int, default=new_tokens, help=f"default: {new_tokens}")
    one.add_argument("--repeats", type=int, default=5, help="rounds that count, after 2 that do not; default: 5")
    one.add_argument("--json", metavar="FILE", help="write the result to FILE")
    return one


def run(options: argparse.Namespace) -> int:
    """Print the rows of the benchmark, and the predictions where there is a calibration; returns 0."""
    from tfguide.bench.contestants import check_config
    from tfguide.bench.models import find_model

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _check_counts(options)
    use_llama_cpp(options.llama_cpp, options.peers)
    config, folder = find_model(options.model)
    check_config(config)
    if options.task == "lengths" and folder is None:  # random weights have no longest text
        config = config.replace(max_positions=max(options.lengths) + options.new_tokens)
    _check_fits(options, config)
    check_json_file(options.json)
    timed = {"rows": _time_rows, "lengths": _time_lengths}.get(options.task, _time_one_text)
    print(timed(options, config, folder))
    return 0


def _time_one_text(options, config, folder):
    from tfguide.bench import predict
    from tfguide.bench.run import bench, table

    if options.device == "cuda":
        _check_cuda(options)
    known = predict.read_calibration(options.measured) if options.measured else []
    result = bench(
        options.task, config, options.framework, options.dtype, options.peers, options.prompt, options.new_tokens,
        options.repeats, options.device, options.memory, _keeper(options), folder,
    )  # fmt: skip
    predicted = [predict.table(predict.predictions(result, known))] if known else []
    return "\n".join([table(result), *predicted])


def _time_rows(options, config, folder):
    from tfguide.bench.rows import bench_rows, table

    return table(bench_rows(
        config, options.framework, options.dtype, options.peers, options.rows, options.prompt, options.new_tokens,
        options.repeats, options.read, _keeper(options), folder,
    ))  # fmt: skip


def _time_lengths(options, config, folder):
    from tfguide.bench.lengths import bench_lengths, table

    return table(bench_lengths(
        config, options.framework, options.dtype, options.peers, options.cache_dtype or [None], options.lengths,
        options.new_tokens, options.repeats, options.prompt_repeats, _keeper(options), folder,
    ))  # fmt: skip


def _keeper(options):
    """What writes the result so far, and says on stderr what was measured."""
    from tfguide.bench.run import write_json

    def keep(result):
        if options.json:
            write_json(result | {"model": os.path.basename(os.path.normpath(options.model))}, options.json)
        last = result["rows"][-1]
        done = f"{last['framework']} {last['dtype']}" + (f", prompt of {last['prompt']}" if "prompt" in last else "")
        print(f"tfguide: measured {done}; {len(result['rows'])} rows so far", file=sys.stderr)

    return keep


def _check_counts(options):
    given = vars(options)  # each task has its own options
    least = {"new_tokens": 2 if options.task == "decode" else 1, "repeats": 1, "prompt_repeats": 1, "read": 1}
    for name, smallest in least.items():
        if name in given and given[name] < smallest:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {smallest}, got {given[name]}")
    if options.task == "rows" and min(options.rows) < 1:
        raise ValueError(f"--rows must be at least 1, got {min(options.rows)}")


def _check_fits(options, config: ModelConfig):
    name, counts = ("lengths", options.lengths) if options.task == "lengths" else ("prompt", options.prompt)
    counts = [counts] if options.task == "rows" else counts
    longest = max(max(counts) + options.new_tokens, vars(options).get("read", 0))
    if min(counts) < 1 or (config.max_positions is not None and longest > config.max_positions):
        raise ValueError(f"--{name} and --new-tokens must fit into {config.max_positions} positions, got {longest}")


def _check_cuda(options):
    import torch

    if options.framework != ["torch"] or set(options.dtype) & {"int8", "int4"}:
        raise ValueError("--device cuda is for --framework torch in float32, bfloat16 or float16")
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU here")
