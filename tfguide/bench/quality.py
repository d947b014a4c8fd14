"""`tfguide bench quantization`: what each type of weights costs in quality, how many bits it takes and how fast it is.

Quality is the perplexity of one text. llama.cpp reads the same tokens in the same windows, from files that are written
from the same weights.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfguide.bench import limits
from tfguide.bench.llama import LlamaModel, LlamaRows, check_survives, has_llama_cpp
from tfguide.bench.models import file_size, read_model, weights_size
from tfguide.bench.ours import OurRows
from tfguide.bench.timing import machine, show_machine, show_name, take_turns
from tfguide.checkpoints import is_gguf, write_gguf
from tfguide.checks.values import check_count
from tfguide.compress import Quantization
from tfguide.config import ModelConfig
from tfguide.generation.perplexity import text_log_probability, windows_of
from tfguide.loading import load_framework, try_accelerate

PROMPT = 16  # tokens before the steps that are timed
FILES = ("F16", "Q8_0", "Q4_0", "Q4_1", "Q4_K")
_FLOAT, _CALIBRATED, _AS_IT_IS = "float32", ", calibrated", ", the file as it is"
# What is compared: a name, how the weights are quantised, and whether on text that the model reads. 4-bit groups have a
# minimum, unless they are symmetric.
WEIGHTS: tuple[tuple[str, Quantization | None, bool], ...] = (
    (_FLOAT, None, False),
    ("8 bits", Quantization(8), False),
    ("8 bits, 8-bit activations", Quantization(8, 8), False),
    ("4 bits, symmetric", Quantization(4, asymmetric=False), False),
    ("4 bits", Quantization(4), False),
    ("4 bits, 8-bit activations", Quantization(4, 8), False),
    (f"4 bits{_CALIBRATED}", Quantization(4), True),
    (f"4 bits{_CALIBRATED}, 8-bit activations", Quantization(4, 8), True),
)


def bench_quantization(
    path: str | os.PathLike,
    tokens: Sequence[int],
    calibration: np.ndarray,
    window: int = 256,
    framework: str = "torch",
    peers: bool = False,
    n_new: int = 32,
    repeats: int = 5,
    keep: Callable[[dict], None] = lambda result: None,
) -> dict:
    """The perplexity, the bits and the speed of each of WEIGHTS, of the file itself, and of llama.cpp's files.

    path: a decoder, as a GGUF file or a checkpoint folder. tokens: (n,), the text whose perplexity is taken in windows
    of `window` tokens; calibration: (B, T), another text. n_new: greedy steps that are timed after a short prompt, all
    contestants in turn. A row has the "perplexity", the "bits" of a weight that a step multiplies, "n_bytes" of all
    weights, and "tokens_per_second", unless the C++ kernels do not multiply such weights. A peer that fails is a row
    with an "error". `keep` is given the result after every row. Raises ValueError for a text that is too short, counts
    below 1, or a model that is no decoder.
    """
    n_new, repeats = check_count("n_new", n_new), check_count("repeats", repeats)
    windows_of(len(tokens), window)  # raises for sizes that do not fit, before anything is loaded
    config, weights = read_model(path)
    if config.kind != "decoder":
        raise ValueError(f"perplexity is that of a decoder, got a model of kind {config.kind!r}")
    reader = limits.memory_reader()
    found = limits.measure(reader)
    about = {"window": window, "tokens": len(tokens), "calibration_tokens": int(np.size(calibration))}
    result = {"task": "quantization", "machine": machine(peers), "config": config.to_dict(), "limits": found, **about}
    result["rows"] = rows = []
    prompt, running = np.asarray(tokens)[None, :PROMPT], {}
    tg = load_framework(framework)
    for row, model in our_models(tg, framework, path, config, weights, calibration):
        fast = try_accelerate(tg, model)
        row["perplexity"] = tg.perplexity(fast, tokens, window)
        if fast is not model:
            running[len(rows)] = OurRows(fast, prompt, n_new)
        rows.append(row)
        keep(result)
    with tempfile.TemporaryDirectory() as folder:
        for row, file in _files(folder, path, config, weights) if peers else ():
            try:
                model = _load_llama(file)
                row |= file_size(file)
                row["perplexity"] = llama_perplexity(model, tokens, window)
                running[len(rows)] = LlamaRows(model, prompt, n_new)
            except Exception as error:  # ours still count, and the row says what happened
                row["error"] = f"{type(error).__name__}: {error}"
            rows.append(row)
            keep(result)
        _time(rows, running, reader, n_new, repeats)
        for row in running.values():
            row.close()
    gc.collect()
    keep(result)
    return result


def our_models(
    tg: Any, framework: str, path: str | os.PathLike, config: ModelConfig, weights: dict, calibration: np.ndarray
) -> Iterator[tuple[dict[str, Any], Any]]:
    """The first entries of a row for each of WEIGHTS and for the file itself, and its model, one after the other.

    A model that nobody keeps is freed before the next.
    """
    plain = tg.from_weights(config, weights)
    arrays, packed = None, None
    for name, how, calibrated in WEIGHTS:
        row = {"name": "tfguide", "framework": framework, "weights": name} | weights_size(config, how)
        if how is None:
            yield row, plain
            continue
        if packed != (as_weights := (replace(how, activation_bits=None), calibrated)):
            options = {"group_size": how.group_size} if how.group_size else {}
            options |= {"calibration": calibration} if calibrated else {}
            model = tg.quantize(plain, how.weight_bits, None, asymmetric=how.asymmetric, **options)
            arrays, packed = model.to_quantized(), as_weights
        yield row, plain.with_quantized(how, arrays)  # what is rounded of the activations changes no weight
    if is_gguf(path):
        size = file_size(path)
        row = {"name": "tfguide", "framework": framework, "weights": size["block_type"] + _AS_IT_IS}
        yield row | size, tg.load_checkpoint(path)


def llama_perplexity(model: LlamaModel, tokens: Sequence[int], window: int) -> float:
    """The perplexity of tokens (n,) by llama.cpp, in the windows and with the sums of `tfguide.generation.perplexity`.

    Keys and values are float16 there.
    """
    tokens, total = np.asarray(tokens), 0.0
    for start, stop, first in windows_of(len(tokens), window):
        rows = LlamaRows(model, tokens[None, start : stop - 1], 1)
        total -= text_log_probability(rows.score(stop - first)[0], tokens[first:stop])
        rows.close()
    return math.exp(total / (len(tokens) - 1))


def _files(folder, path, config, weights) -> Iterator[tuple[dict[str, Any], str]]:
    """The first entries of a row of llama.cpp, and its file: each is written when it is asked for."""
    for block_type in FILES:
        file = os.path.join(folder, f"{block_type}.gguf")
        write_gguf(file, config, weights, block_type)
        yield {"name": "llama.cpp", "weights": block_type}, file
    if is_gguf(path):
        yield {"name": "llama.cpp", "weights": file_size(path)["block_type"] + _AS_IT_IS}, os.fspath(path)


def _load_llama(file):
    if not has_llama_cpp():
        raise ImportError("llama-cpp-python is not installed")
    check_survives(file)
    return LlamaModel(file)


def _time(rows, running, reader, n_new, repeats):
    """Add the speed to the rows that can be timed, and the share of what the memory allowed in the same rounds."""
    for one in running.values():
        one.read()
    seconds = take_turns({"memory": reader} | {i: _steps(one, n_new) for i, one in running.items()}, repeats)
    for i in running:
        row, middle = rows[i], statistics.median(seconds[i])
        row["seconds"], row["new_tokens"] = middle, n_new
        row["tokens_per_second"] = n_new / middle
        allowed = [reader.n_bytes / memory for memory in seconds["memory"]]
        read = [n_new * row["multiplied_bytes"] / own for own in seconds[i]]
        row["share_of_bandwidth"] = statistics.median(a / b for a, b in zip(read, allowed, strict=True))


def _steps(one, n_new):
    return lambda: one.steps(n_new)


def table(result: dict) -> str:
    """The rows as lines of text, and how many percent each perplexity lies above that of float32."""
    exact = result["rows"][0]["perplexity"]
    lines = [
        f"perplexity of {result['tokens']} tokens in windows of {result['window']}; "
        f"calibrated on {result['calibration_tokens']} others",
        f"{'':18} {'weights':39}{'perplexity':>10}{'':9}{'bits':>6}{'MB':>6}{'tokens/s':>10}",
    ]
    for row in result["rows"]:
        start = f"{show_name(row):18} {row['weights']:39}"
        if "error" in row:
            lines.append(f"{start}  {row['error']}")
            continue
        speed = f"{row['tokens_per_second']:.1f}" if "tokens_per_second" in row else ""
        lines.append(
            f"{start}{row['perplexity']:>10.3f}{row['perplexity'] / exact - 1:>+9.2%}{row['bits']:>6.2f}"
            f"{row['n_bytes'] / 1e6:>6.0f}{speed:>10}"
        )
    return "\n".join([show_machine(result), *(line.rstrip() for line in lines)])
