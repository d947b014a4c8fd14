"""The command `tfguide`: generate text, time this package against others, and plan what serving costs."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import TextIO

from tfguide.compress import Quantization
from tfguide.generation.choose import Sampling
from tfguide.planner import add_commands
from tfguide.text import pieces, read_tokenizer

FRAMEWORKS = ("torch", "tensorflow")
DTYPES = ("float32", "bfloat16", "float16", "int8", "int4")


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 where all went well, 2 for a mistake in what was asked for, 130 where it was interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        done = options.run(options)
        sys.stdout.flush()
        return done
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"tfguide: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command line, with every command."""
    parser = argparse.ArgumentParser(prog="tfguide", description=__doc__.split(":", 1)[1].strip())
    commands = parser.add_subparsers(required=True, metavar="command")
    generate = commands.add_parser("generate", help="stream text from a checkpoint", description="Stream text.")
    generate.set_defaults(run=_generate)
    generate.add_argument(
        "--checkpoint", required=True, metavar="FOLDER", help="config.json, safetensors, tokenizer.json"
    )
    generate.add_argument("--prompt", required=True, help="the text to continue")
    generate.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    generate.add_argument("--dtype", choices=DTYPES, help="of the weights (float32, or what the folder holds)")
    generate.add_argument("--max-new-tokens", type=int, default=64, metavar="N")
    generate.add_argument("--temperature", type=float, default=0.0, help="0, the default, takes the likeliest token")
    for name, kind in (("top-k", int), ("top-p", float), ("min-p", float), ("repetition-penalty", float)):
        generate.add_argument(f"--{name}", type=kind)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--stop", type=int, nargs="*", metavar="TOKEN", help="token ids that end the text")
    generate.add_argument(
        "--ignore", action="append", default=[], metavar="KEY",
        help='a key of config.json to pass over, where you know that it does not matter ("outer.inner" inside another)',
    )  # fmt: skip
    generate.add_argument("--plain", action="store_true", help="the readable model, without the C++ kernels")

    add_commands(commands)
    bench = commands.add_parser("bench", help="time this package", description="Time this package against others.")
    tasks = bench.add_subparsers(required=True, metavar="task")
    for task, about in (("decode", "tokens a second after the prompt"), ("prefill", "seconds to read a prompt")):
        one = tasks.add_parser(task, help=about, description=f"Time {about}.")
        one.set_defaults(run=_bench, task=task)
        one.add_argument("--peers", action="store_true", help="beside Hugging Face, KerasHub and llama.cpp")
        one.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=["torch"])
        one.add_argument("--dtype", choices=DTYPES, nargs="+", default=["float32"])
        one.add_argument("--model", default="S", help="S (125M), M (1.1B), or a checkpoint folder")
        one.add_argument("--prompt", type=int, nargs="+", default=[128] if task == "decode" else [128, 1024])
        one.add_argument("--new-tokens", type=int, default=64)
        one.add_argument("--repeats", type=int, default=5, help="rounds that count, after 2 that do not")
        one.add_argument("--memory", action="store_true", help="measure peak memory too, in processes of their own")
        one.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        one.add_argument("--json", metavar="FILE", help="write the result there")
        one.add_argument("--measured", metavar="FILE", help="predict too, with what `tfguide calibrate --json` wrote")
    measure = commands.add_parser("calibrate", help="measure this machine", description="Measure this machine.")
    measure.set_defaults(run=_calibrate)
    measure.add_argument("--framework", choices=FRAMEWORKS, nargs="+", default=["torch"])
    measure.add_argument("--dtype", choices=("float32", "bfloat16"), nargs="+", default=["float32", "bfloat16"])
    measure.add_argument("--json", metavar="FILE", help="write the result there, for `tfguide plan --measured FILE`")
    return parser


def _calibrate(options):
    from tfguide.bench import calibrate, run

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _check_json(options)
    result = calibrate.calibrate(options.framework, options.dtype)
    if options.json:
        run.write_json(result, options.json)
    print(calibrate.table(result))
    return 0


def _check_json(options):
    if options.json and not os.path.isdir(os.path.dirname(os.path.abspath(options.json))):
        raise ValueError(f"--json names a file in a folder that is not there: {options.json}")


def _bench(options):
    from tfguide.bench import predict, run
    from tfguide.bench.contestants import check_config
    from tfguide.bench.models import MODELS
    from tfguide.checkpoints import read_checkpoint

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("new_tokens", "repeats"):
        least = 2 if name == "new_tokens" and options.task == "decode" else 1
        if getattr(options, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}")
    folder = None if options.model in MODELS else options.model
    config = MODELS[options.model] if folder is None else read_checkpoint(folder)[0]
    check_config(config)
    longest = max(options.prompt) + options.new_tokens
    if min(options.prompt) < 1 or (config.max_positions is not None and longest > config.max_positions):
        raise ValueError(f"--prompt and --new-tokens must fit into {config.max_positions} positions, got {longest}")
    if options.device == "cuda":
        _check_cuda(options)
    _check_json(options)
    known = predict.read_calibration(options.measured) if options.measured else []

    def keep(result):
        if options.json:
            run.write_json(result, options.json)
        last = result["rows"][-1]
        done = f"{last['framework']} {last['dtype']}, prompt of {last['prompt']}"
        print(f"tfguide: measured {done}; {len(result['rows'])} rows so far", file=sys.stderr)

    result = run.bench(
        options.task, config, options.framework, options.dtype, options.peers, options.prompt, options.new_tokens,
        options.repeats, options.device, options.memory, keep, folder,
    )  # fmt: skip
    print(run.table(result))
    if known:
        print(predict.table(predict.predictions(result, known)))
    return 0


def _check_cuda(options):
    import torch

    if options.framework != ["torch"] or set(options.dtype) & {"int8", "int4"}:
        raise ValueError("--device cuda is for --framework torch in float32, bfloat16 or float16")
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch sees no GPU here")


def _generate(options):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    tokenizer = read_tokenizer(options.checkpoint)
    sampling = Sampling(
        temperature=options.temperature, top_k=options.top_k, top_p=options.top_p, min_p=options.min_p,
        repetition_penalty=options.repetition_penalty, seed=options.seed,
    )  # fmt: skip
    prompt = tokenizer.encode(options.prompt).ids
    model, stream = _load(options)
    tokens = stream(model, prompt, options.max_new_tokens, options.stop, sampling)
    # Where the text goes elsewhere, the terminal shows how far it is. On one terminal they would write into each other.
    live = sys.stderr if sys.stderr.isatty() and not sys.stdout.isatty() else None
    counted = Counted(tokens, len(prompt), live)
    for text in pieces(tokenizer, prompt, counted):
        print(text, end="", flush=True)
    print(flush=True)
    print(counted.summary(), file=sys.stderr)
    return 0


def _load(options):
    from importlib import import_module

    tg = import_module(f"tfguide.{options.framework}")
    how = {"dtype": options.dtype or "float32"}
    if options.dtype in ("int8", "int4"):
        how = {"quantization": Quantization(int(options.dtype[3:]), activation_bits=8)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = tg.load_checkpoint(options.checkpoint, options.ignore, **how)
    for warning in caught:
        print(f"tfguide: {warning.message}", file=sys.stderr)
    if not options.plain and model.config.kind == "decoder" and model.config.positions != "relative":
        from tfguide.native import NativeUnavailable

        try:
            model = tg.accelerate(model)
        except NativeUnavailable as error:
            print(f"tfguide: going on without the C++ kernels: {error}", file=sys.stderr)
    return model, tg.stream


class Counted:
    """Tokens on their way, counted and timed. `live`: a terminal whose line shows the speed while they come."""

    def __init__(self, tokens: Iterable[int], n_prompt: int, live: TextIO | None = None):
        self.tokens, self.n_prompt, self.live = tokens, n_prompt, live
        self.times: list[float] = []
        self.start = self._shown = time.perf_counter()

    def __iter__(self) -> Iterator[int]:
        for token in self.tokens:
            self.times.append(time.perf_counter())
            if self.live and self.times[-1] - self._shown > 0.2:
                self._shown = self.times[-1]
                print(f"\r{self.summary()} ", end="", file=self.live, flush=True)
            yield token
        if self.live:
            print(end="\r", file=self.live)

    def summary(self) -> str:
        """How long the prompt took, and the new tokens a second."""
        line = f"{self.n_prompt} tokens read in {self.times[0] - self.start:.2f} s"
        n, seconds = len(self.times), self.times[-1] - self.times[0]
        return line + (f", {n} new at {(n - 1) / seconds:.1f} tokens/s" if n > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
