"""One decoder, moved out to every program that takes it: the size of its file, its times, and what it loses.

`python -m tfguide.bench.exports --json exports.json` measures SmolLM2-135M; `--model FOLDER` another decoder. Every
program computes with one thread, and the programs take turns. `--keep FOLDER` keeps the files, and a second call does
not write what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfguide.bench.run import write_json
from tfguide.bench.timing import machine, take_turns
from tfguide.checks.values import check_choice, check_count
from tfguide.export import LiteRtGraph, OnnxGraph, ProgramGraph, export_litert, export_onnx, export_program
from tfguide.loading import find_checkpoint, load_framework
from tfguide.weights import weight_shapes

#: The programs, by name, with the type of the weights in the file.
TARGETS = {
    "PyTorch": "float32", "transformers": "float32", "torch.export": "float32", "ONNX Runtime": "float32",
    "ONNX Runtime, 8 bits": "int8", "LiteRT": "float32", "LiteRT, 8 bits": "int8", "GGUF F32": "F32",
    "GGUF Q8_0": "Q8_0",
}  # fmt: skip


class Ours:
    """A model of this package, which the others are compared with; a GGUF file, read back into one."""

    def __init__(self, framework: Any, model: Any):
        self.framework, self.model = framework, model

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """The logits (1, T, V) of tokens (1, T)."""
        return np.asarray(self.model(tokens).detach())

    def generate(self, prompt: Sequence[int], n: int) -> list[int]:
        """The n most likely tokens after a prompt, one after the other."""
        return self.framework.generate(self.model, [prompt], n, stop_tokens=())[0]


class Transformers:
    """The folder of `save_checkpoint`, in the library that it is written for."""

    def __init__(self, folder: Path):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        self._model, self._torch = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), torch

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """The logits (1, T, V) of tokens (1, T)."""
        with self._torch.inference_mode():
            return self._model(self._torch.from_numpy(tokens)).logits.numpy()

    def generate(self, prompt: Sequence[int], n: int) -> list[int]:
        """The n most likely tokens after a prompt, one after the other."""
        ids = self._torch.tensor([list(prompt)])
        options = dict(max_new_tokens=n, min_new_tokens=n, do_sample=False, eos_token_id=None, pad_token_id=0)
        with self._torch.inference_mode():
            tokens = self._model.generate(ids, attention_mask=self._torch.ones_like(ids), **options)
        return tokens[0, len(prompt) :].tolist()


class Graph:
    """A graph of `tfguide.export` as it runs."""

    def __init__(self, graph: Any):
        self._graph = graph

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """The logits (1, T, V) of tokens (1, T)."""
        return self._graph.read(tokens, self._graph.new_past(), 0)[0]

    def generate(self, prompt: Sequence[int], n: int) -> list[int]:
        """The n most likely tokens after a prompt, one after the other."""
        return self._graph.generate(prompt, n)


def measure(
    path: str | os.PathLike,
    targets: Sequence[str] = tuple(TARGETS),
    n_prompt: int = 64,
    n_new: int = 32,
    repeats: int = 5,
    keep: str | os.PathLike | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """A row for each target: the bytes and seconds of its file, its times, and its difference from PyTorch.

    path: a decoder's folder or GGUF file. keep: a folder for the files, which are not written again where they are
    there. "write_seconds": of the processor, which other programs do not stretch much. "difference": of the logits of
    the prompt, the norm relative to that of PyTorch's. "same": how many of the new tokens, up to the first that
    differs. Seconds of the prompt and of a token are medians over `repeats` rounds; files of GGUF are read back and
    not timed. Raises ValueError for a name that is not in TARGETS, for counts below 1, and as `load_checkpoint`.
    """
    for name in targets:
        check_choice("target", name, TARGETS)
    n_prompt, n_new = check_count("n_prompt", n_prompt), check_count("n_new", n_new, least=2)
    import torch

    torch.set_num_threads(1)
    framework = load_framework("torch")
    model = framework.load_checkpoint(path, dtype="float32")
    ours = Ours(framework, model)
    prompt = np.random.default_rng(0).integers(0, model.config.vocab_size, n_prompt).tolist()
    expected, tokens = ours.logits(np.array([prompt])), ours.generate(prompt, n_new)
    rows, running = [], {}
    with tempfile.TemporaryDirectory() if keep is None else contextlib.nullcontext(keep) as folder:
        for name in targets:
            row = {"name": name, "weights": TARGETS[name]}
            contestant = ours if name == "PyTorch" else _moved(row, path, model, Path(folder), n_prompt + n_new)
            logits = contestant.logits(np.array([prompt]))
            row["difference"] = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
            row["same"] = _common(contestant.generate(prompt, n_new), tokens)
            rows.append(row)
            if not name.startswith("GGUF"):
                running[name] = contestant
            say(str(row))
        _time(rows, running, prompt, n_new, repeats)
    about = {"model": Path(path).stem, "prompt": n_prompt, "new_tokens": n_new, "threads": 1, "repeats": repeats}
    parameters = sum(map(math.prod, weight_shapes(model.config).values()))
    return {"machine": machine(), **about, "parameters": parameters, "rows": rows}


def _moved(row, path, model, folder, max_length):
    """The contestant of a row, whose file is written and read; the seconds and bytes are added to the row."""
    name, bits = row["name"], 8 if row["weights"] == "int8" else None
    framework = load_framework("torch")
    file = folder / {"transformers": "folder", "torch.export": "model.pt2"}.get(name, name.replace(" ", "_"))
    if name.startswith("GGUF"):
        file = file.with_suffix(".gguf")
        write, read = lambda: framework.save_gguf(model, file, row["weights"]), lambda: Ours(
            framework, framework.load_checkpoint(file, dtype="float32")
        )  # fmt: skip
    elif name == "transformers":
        write, read = lambda: framework.save_checkpoint(model, file), lambda: Transformers(file)
    elif name == "torch.export":
        write, read = lambda: export_program(model, file), lambda: Graph(ProgramGraph(file))
    elif name.startswith("ONNX"):
        file = file.with_suffix(".onnx")
        write, read = lambda: export_onnx(model, file, bits), lambda: Graph(OnnxGraph(file, 1))
    else:
        file, theirs = file.with_suffix(".tflite"), load_framework("tensorflow")
        twin = theirs.load_checkpoint(path, dtype="float32")
        write, read = lambda: export_litert(twin, file, max_length, bits), lambda: Graph(LiteRtGraph(file, 1))
    noted = folder / f"{file.name}.seconds"
    if not noted.exists():
        start = time.process_time()
        write()
        noted.write_text(str(time.process_time() - start))
    contestant = read()
    row["write_seconds"] = float(noted.read_text())
    row["bytes"] = sum(part.stat().st_size for part in ([file] if file.is_file() else file.iterdir()))
    return contestant


def _time(rows, running, prompt, n_new, repeats):
    """Add the seconds of the prompt and of a token to the rows of what runs."""
    calls = {
        (name, n): (lambda one=one, n=n: one.generate(prompt, n)) for name, one in running.items() for n in (1, n_new)
    }
    seconds = take_turns(calls, repeats, warmup=1)
    for row in rows:
        if row["name"] in running:
            first, whole = seconds[row["name"], 1], seconds[row["name"], n_new]
            row["prompt_seconds"] = statistics.median(first)
            steps = [(b - a) / (n_new - 1) for a, b in zip(first, whole, strict=True)]
            row["token_seconds"] = statistics.median(steps)


def _common(found, expected):
    """How many tokens two texts share before the first that differs."""
    return next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b), len(expected))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print each row as it comes, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a decoder's folder or GGUF file; default: SmolLM2-135M")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the prompt")
    parser.add_argument("--new", type=int, default=32, help="new tokens")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files there, and do not write what is there")
    parser.add_argument("--json", help="write the result to this file")
    options = parser.parse_args(arguments)
    sizes = options.prompt, options.new, options.repeats
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    path = find_checkpoint(options.model)
    result = measure(path, options.targets, *sizes, options.keep, lambda line: print(line, flush=True))
    for row in result["rows"]:
        print(row)
    if options.json:
        write_json(result, options.json)


if __name__ == "__main__":
    main()
