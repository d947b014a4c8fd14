"""`python -m tfguide.bench.precision`: what 16 bits for weights and activations change, save and take.

Each type computes the same text with the same weights, rounded to it. float32 is the measure: its logits, its greedy
tokens, and its time. Steps and prompts are timed in turns, by the framework and by the C++ kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.caches import read_documentation
from tfguide.bench.models import bytes_read, read_model
from tfguide.bench.ours import OurRows
from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, take_turns
from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.dtypes import dtype_bytes
from tfguide.generation.checks import check_text_tokens
from tfguide.generation.choose import log_softmax
from tfguide.loading import FRAMEWORKS, find_checkpoint, load_framework, try_accelerate
from tfguide.weights import weight_shapes

DTYPES = ("float32", "bfloat16", "float16")


def measure_types(
    tg: Any,
    config: ModelConfig,
    weights: dict[str, np.ndarray],
    tokens: Sequence[int],
    dtypes: Sequence[str] = DTYPES,
    window: int = 256,
    compared: int = 2,
    prompts: int = 8,
    prompt: int = 32,
    n_new: int = 32,
) -> dict:
    """What each type of weights and activations changes, by the plain model: a row for each, the first the measure.

    tokens: (n,), whose "perplexity" is taken in windows of `window`. The logits of the first `compared` windows are
    compared with those of the first type: "largest_difference" of two logits, "divergence" (the mean of KL(first,
    this) over positions, in nats) and "same_choice" (the share of positions with the same largest logit). Then `n_new`
    greedy tokens follow each of `prompts` pieces of the text, `prompt` tokens long: "first_differences" holds the
    number of equal tokens, n_new where all are, and "gaps" by how much the first type's logits prefer its own token
    where they part. "gaps" of the result: of its two largest logits, at every compared position. Raises ValueError for
    counts below 1 and a text that is too short.
    """
    tokens = check_text_tokens(tokens, config.vocab_size)
    counts = {"compared": compared, "prompts": prompts, "prompt": prompt, "n_new": n_new}
    for name, value in counts.items():
        check_count(name, value)
    least = max(compared * window, prompts * prompt)
    check_count("the number of tokens", len(tokens), least=least)
    text = tokens[: compared * window].reshape(compared, window)
    starts = tokens[: prompts * prompt].reshape(prompts, prompt)
    exact = tg.from_weights(config, weights, dtypes[0])
    truth = [_logits(exact, row) for row in text]
    chosen = tg.generate(exact, starts.tolist(), n_new, [])
    top = [np.sort(np.partition(logits, -2)[:, -2:]) for logits in truth]
    rows = []
    for dtype in dtypes:
        model = tg.from_weights(config, weights, dtype)
        with _products_in_float32(tg):
            row = {"dtype": dtype, "perplexity": tg.perplexity(model, tokens, window)}
            row |= _compare(truth, [_logits(model, one) for one in text])
            theirs = tg.generate(model, starts.tolist(), n_new, [])
        rows.append(row | _part(exact, starts, chosen, theirs))
    gaps = np.concatenate([pair[:, 1] - pair[:, 0] for pair in top])
    quantiles = {f"{share:.0%}": float(np.quantile(gaps, share)) for share in (0.01, 0.1, 0.5)}
    return {"window": window, "tokens": len(tokens), **counts, "gaps": quantiles, "rows": rows}


def time_types(
    tg: Any, config: ModelConfig, weights: dict[str, np.ndarray], tokens: Sequence[int],
    dtypes: Sequence[str] = DTYPES, prompt: int = 128, n_new: int = 16, repeats: int = 5,
) -> list[dict]:  # fmt: skip
    """The seconds of a greedy step and of the prompt before it, by type and by who computes, all in turns.

    tokens: (n,), the first `prompt` of which are read. A row has "dtype", "by" ("kernels", where they are built, or
    "framework"), "step_seconds", "prompt_seconds", "bytes" (that a step reads), "n_bytes" (of all weights) and
    "read_bytes_per_second", of the memory in the same rounds. Raises ValueError for counts below 1 and a text that is
    too short.
    """
    tokens = check_text_tokens(tokens, config.vocab_size)
    for name, value in {"prompt": prompt, "n_new": n_new, "repeats": repeats}.items():
        check_count(name, value)
    check_count("the number of tokens", len(tokens), least=prompt)
    reader, running = limits.memory_reader(), {}
    for dtype in dtypes:
        plain = tg.from_weights(config, weights, dtype)
        fast = try_accelerate(tg, plain)
        running |= {(dtype, "framework"): plain} | ({(dtype, "kernels"): fast} if fast is not plain else {})
    ready = {who: OurRows(model, tokens[None, :prompt], n_new) for who, model in running.items()}
    reads = take_turns({who: one.read for who, one in ready.items()}, repeats, warmup=1)
    steps = take_turns({"memory": reader} | {who: _steps(one, n_new) for who, one in ready.items()}, repeats, warmup=1)
    speed = reader.n_bytes / statistics.median(steps["memory"])
    count = sum(int(np.prod(shape)) for shape in weight_shapes(config).values())
    return [
        {
            "dtype": dtype, "by": by, "step_seconds": statistics.median(steps[dtype, by]) / n_new,
            "prompt_seconds": statistics.median(reads[dtype, by]), "prompt": prompt,
            "bytes": bytes_read(config, dtype, prompt + n_new // 2), "n_bytes": int(count * dtype_bytes(dtype)),
            "read_bytes_per_second": speed,
        }
        for dtype, by in ready
    ]  # fmt: skip


def _products_in_float32(tg):
    """PyTorch's products of 16 bits by float32: the same products and sums, rounded once.

    A processor without 16-bit products takes twenty times as long for its own.
    """
    if tg.__name__ != "tfguide.torch":
        return contextlib.nullcontext()
    import torch
    from torch.overrides import TorchFunctionMode

    products = (torch.nn.functional.linear, torch.Tensor.matmul, torch.Tensor.__matmul__)

    class Wide(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function not in products or args[0].itemsize > 2:
                return function(*args, **(kwargs or {}))
            wide = (None if one is None else one.float() for one in args)
            return function(*wide).to(args[0].dtype)

    return Wide()


def _logits(model, row):
    """The logits (T, V) of one row of tokens (T,), float32."""
    return np.asarray(model.score(row[None], None)[0], np.float32)


def _compare(truth, got):
    """Logits (T, V) of some windows beside those of the measure."""
    largest, divergence, same = 0.0, [], []
    for exact, other in zip(truth, got, strict=True):
        largest = max(largest, float(np.abs(exact - other).max()))
        p, q = log_softmax(exact), log_softmax(other)
        divergence.append((np.exp(p) * (p - q)).sum(axis=1))
        same.append(exact.argmax(axis=1) == other.argmax(axis=1))
    return {
        "largest_difference": largest, "divergence": float(np.concatenate(divergence).mean()),
        "same_choice": float(np.concatenate(same).mean()),
    }  # fmt: skip


def _part(exact, starts, ours, theirs):
    """After how many tokens the greedy texts part, and the measure's gap between both choices there."""
    firsts, gaps = [], []
    for start, own, other in zip(starts, ours, theirs, strict=True):
        n = next((i for i, pair in enumerate(zip(own, other, strict=True)) if pair[0] != pair[1]), len(own))
        firsts.append(n)
        if n < len(own):
            last = _logits(exact, np.concatenate([start, np.asarray(own[:n], start.dtype)]))[-1]
            gaps.append(float(last[own[n]] - last[other[n]]))
    return {"first_differences": firsts, "gaps": gaps}


def _steps(one, n_new):
    return lambda: one.steps(n_new)


def table(result: dict) -> str:
    """The rows of a result as a table of text."""
    if result["task"] == "precision-times":
        return "\n".join([f"{'':10}{'':10}{'ms/step':>9}{'prompt s':>10}"] + [
            f"{row['dtype']:10}{row['by']:10}{1e3 * row['step_seconds']:>9.2f}{row['prompt_seconds']:>10.3f}"
            for row in result["rows"]
        ])  # fmt: skip
    return "\n".join([f"{'':10}{'perplexity':>11}{'largest':>9}{'KL':>10}{'same':>8}  equal tokens"] + [
        f"{row['dtype']:10}{row['perplexity']:>11.4f}{row['largest_difference']:>9.3f}{row['divergence']:>10.1e}"
        f"{row['same_choice']:>8.1%}  {' '.join(map(str, row['first_differences']))}"
        for row in result["rows"]
    ])  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tfguide.bench.precision", description=__doc__.split("\n\n")[0])
    parser.add_argument("task", choices=("types", "times"), help="what each type changes, or what it takes")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="torch")
    parser.add_argument("--model", metavar="PATH", help="a checkpoint with a tokenizer; default: SmolLM2-135M-Instruct")
    parser.add_argument("--tokens", type=int, default=1024, help="of Python's documentation; default: 1024")
    parser.add_argument("--window", type=int, default=256, help="of types: read at once; default: 256")
    parser.add_argument("--new-tokens", type=int, default=32, help="of types: greedy tokens; default: 32")
    parser.add_argument("--prompt", type=int, default=64, help="of times: tokens before the steps; default: 64")
    parser.add_argument("--repeats", type=int, default=5, help="of times: rounds that count; default: 5")
    parser.add_argument("--json", metavar="FILE", help="write the machine and the rows there")
    options = parser.parse_args(arguments)
    path, tg = find_checkpoint(options.model), load_framework(options.framework)
    config, weights = read_model(path)
    tokens = read_documentation(path, options.tokens - 1)
    about = {"machine": machine(), "framework": options.framework, "model": path.name}
    if options.task == "times":
        rows = time_types(tg, config, weights, tokens, prompt=options.prompt, n_new=8, repeats=options.repeats)
        result = {"task": "precision-times", **about, "prompt": options.prompt, "rows": rows}
    else:
        found = measure_types(tg, config, weights, tokens, window=options.window, n_new=options.new_tokens)
        result = {"task": "precision", **about, **found}
    print(table(result))
    if options.json:
        write_json(result, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
