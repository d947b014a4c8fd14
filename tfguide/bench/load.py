"""`tfguide bench load`: how long a model file takes to its first token, and the most memory, beside llama.cpp.

Every run is a process of its own, which imports, loads, reads a short prompt and then longer ones. The file is in the
system's cache: the first round does not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfguide.bench.llama import LlamaCpp, has_llama_cpp, load_llama_cpp
from tfguide.bench.memory import resident
from tfguide.bench.ours import OurRows
from tfguide.bench.timing import machine, seconds_of, show_name
from tfguide.checks.values import check_count
from tfguide.loading import FRAMEWORKS, NONE, load_any, load_framework

PROMPT = "The capital of France is Paris, and the capital"  # of ten tokens in SmolLM2's vocabulary
SHORT = 10
CHUNK = 512  # tokens that are read at a time


def bench_load(
    path: str | os.PathLike,
    frameworks: Sequence[str] = (NONE, *FRAMEWORKS),
    peers: bool = False,
    prompts: Sequence[int] = (128, 1024),
    repeats: int = 5,
    keep: Callable[[dict], None] = lambda result: None,
) -> dict:
    """Time a model file from the start of a process to its first token, in each framework in turn and in none.

    path: a GGUF file, or a checkpoint folder, which llama.cpp does not read. A row has, in seconds since the start of
    the process, "imported", "loaded" and "first", the first token after a prompt of ten tokens; "again", the seconds of
    that prompt a second time; "prompts", the seconds of longer prompts by their lengths, each the second time; and
    "command", the seconds until `tfguide generate` has written its first text. "peak_bytes" is the most resident
    memory up to the first token, Linux only. All are medians. A contestant that fails is a row with an "error".
    Raises ValueError for counts below 1.
    """
    repeats = check_count("repeats", repeats)
    prompts = [check_count("prompts", length) for length in prompts]
    contestants = [("tfguide", framework) for framework in frameworks] + ([("llama.cpp", "")] if peers else [])
    runs: dict[tuple[str, str], list[dict]] = {who: [] for who in contestants}
    errors: dict[tuple[str, str], str] = {}
    size = os.path.getsize(path) if os.path.isfile(path) else None
    result = {"task": "load", "machine": machine(peers), "limits": {}, "file_bytes": size, "rows": []}
    for turn in range(repeats + 1):
        for who in contestants:
            if who not in errors:
                try:
                    found = _run(*who, os.fspath(path), prompts)
                except Exception as error:  # the others are still worth timing, and the row says what happened
                    errors[who] = f"{type(error).__name__}: {error}"
                else:
                    runs[who] += [found] if turn else []
        result["rows"] = [
            {"name": name, "framework": framework} | medians(runs[name, framework], errors.get((name, framework)))
            for name, framework in contestants
        ]
        if turn:
            keep(result)
    return result


def _run(name, framework, path, prompts):
    """The marks of one process, and for this package the seconds of the command."""
    if name == "llama.cpp" and not has_llama_cpp():
        raise ImportError("llama-cpp-python is not installed")
    found = marks(name, framework, path, prompts)
    if name == "tfguide":
        command = [sys.executable, "-m", "tfguide.cli", "generate", "--framework", framework, "--checkpoint", path]
        found["command"] = _first_text([*command, "--prompt", PROMPT, "--max-new-tokens", "2"])
    return found


def marks(name: str, framework: str, path: str, prompts: Sequence[int]) -> dict[str, Any]:
    """What one process says of its times and its memory; see `bench_load`. Raises RuntimeError where it fails."""
    arguments = json.dumps([name, framework, path, prompts, time.monotonic()])
    command = [sys.executable, "-m", "tfguide.bench.load", arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _first_text(command):
    """The seconds until a command has written its first character."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1) as process:
        written = process.stdout.read(1)
        seconds = time.monotonic() - start
        _, messages = process.communicate()
    if process.returncode or not written:
        raise RuntimeError(messages.strip().splitlines()[-1] if messages.strip() else "the command wrote nothing")
    return seconds


def medians(runs: Sequence[Mapping[str, Any]], error: str | None) -> dict[str, Any]:
    """The medians of what `marks` returned in each run, or why there are none."""
    if error is not None:
        return {"error": error}
    if not runs:
        return {}
    row = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "prompts"}
    lengths = runs[0]["prompts"]
    return row | {"prompts": {length: statistics.median(run["prompts"][length] for run in runs) for length in lengths}}


def table(result: dict) -> str:
    """The rows as lines of text."""
    lengths = list(next((row["prompts"] for row in result["rows"] if "prompts" in row), {}))
    head = "".join(f"{f'{length} tokens':>13}" for length in lengths)
    about = result["machine"]
    lines = [
        f"{about['processor']}, {about['cores']} cores; seconds",
        f"{'':20} {'command':>9}{'imported':>10}{'loaded':>8}{'first':>8}{'again':>8}{head}{'peak memory':>13}",
    ]
    for row in result["rows"]:
        start = f"{show_name(row):20} "
        if "error" in row:
            lines.append(f"{start} {row['error']}")
            continue
        command = f"{row['command']:.2f}" if "command" in row else ""
        prompts = "".join(f"{row['prompts'][length]:>13.3f}" for length in lengths)
        peak = f"{row['peak_bytes'] / 1e6:.0f} MB" if "peak_bytes" in row else ""
        lines.append(
            f"{start}{command:>9}{row['imported']:>10.2f}{row['loaded']:>8.2f}{row['first']:>8.2f}{row['again']:>8.3f}"
            f"{prompts}{peak:>13}"
        )
    return "\n".join(line.rstrip() for line in lines)


class _Ours:
    """This package's model of a file: reads prompts, each in a cache of its own."""

    def __init__(self, framework: str, path: str):
        if framework != NONE:
            load_framework(framework)
        self.imported = time.monotonic()
        self._model = load_any(path, framework)

    def reader(self, prompt: np.ndarray) -> Callable[[], object]:
        rows = OurRows(self._model, prompt, 1)
        return lambda: rows.read(CHUNK).argmax()


class _Llama:
    """llama.cpp's model of a file: a context for each prompt, and the weights mapped again with it."""

    def __init__(self, path: str):
        load_llama_cpp()
        self.imported = time.monotonic()
        self._path = path
        self._first = LlamaCpp(path, _tokens(SHORT), 1)

    def reader(self, prompt: np.ndarray) -> Callable[[], object]:
        one = self._first if prompt.shape[1] == SHORT else LlamaCpp(self._path, prompt, 1)
        return lambda: one.logits().argmax()


def _tokens(length):
    return np.arange(3, 3 + length)[None] % 251  # the time does not depend on which they are


def _main(name, framework, path, prompts, start):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    one = _Ours(framework, path) if name == "tfguide" else _Llama(path)
    found = {"imported": one.imported - start, "loaded": time.monotonic() - start}
    first = one.reader(_tokens(SHORT))
    first()
    found["first"] = time.monotonic() - start
    if os.path.exists("/proc/self/status"):
        found["peak_bytes"] = resident("VmHWM")
    found["again"] = seconds_of(first)
    found["prompts"] = {}
    for length in prompts:
        read = one.reader(_tokens(length))
        read()
        found["prompts"][str(length)] = seconds_of(read)
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*json.loads(sys.argv[1]))
