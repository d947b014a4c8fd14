"""Fair timing: contestants take turns, so that a drift of the machine's speed affects all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from tfguide import native
from tfguide.bench.llama import describe_llama_cpp, has_llama_cpp
from tfguide.checks.values import check_count


def seconds_of(call: Callable[[], object]) -> float:
    """The seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def take_turns(contestants: Mapping[str, Callable[[], object]], repeats: int = 9, warmup: int = 2) -> dict:
    """Seconds of each call of each contestant, {name: [seconds, ...]}, one call of each in every round.

    Raises ValueError where `repeats` is below 1 or `warmup` below 0, TypeError where one is not an integer.
    """
    repeats, warmup = check_count("repeats", repeats), check_count("warmup", warmup, least=0)
    seconds = {name: [] for name in contestants}
    for turn in range(warmup + repeats):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(seconds: Mapping[str, list[float]], name: str, other: str) -> float:
    """The median, over the rounds, of one contestant's seconds divided by another's in the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))


def machine(peers: bool = False) -> dict:
    """The machine of a measurement: the processor, the cores this process may use, Python and installed versions.

    "level" names the instructions that the kernels were built for, where there are kernels. peers: also say which
    llama.cpp is measured, and the instructions that it was built for, if there is one.
    """
    packages = (
        "numpy", "torch", "tensorflow", "keras", "keras-hub", "transformers", "llama-cpp-python", "ctranslate2",
        "openvino-genai",
    )  # fmt: skip
    about = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }
    if native.is_available():
        about["level"] = native.level()
    if peers and has_llama_cpp():
        about["llama.cpp"] = describe_llama_cpp()
    return about


def show_name(row: Mapping[str, Any]) -> str:
    """The contestant of a row; ours stands in several frameworks."""
    return f"{row['name']} {row['framework']}" if row["name"] == "tfguide" else row["name"]


def show_machine(result: Mapping[str, Any]) -> str:
    """The first lines of a printed result: its machine, and the limits that were measured."""
    about, found = result["machine"], result["limits"]
    lines = [f"{about['processor']}, {about['cores']} cores" + (f", {about['level']}" if "level" in about else "")]
    if "llama.cpp" in about:
        lines.append(
            f"llama.cpp of llama-cpp-python {about['llama.cpp']['version']}: {about['llama.cpp']['built_for']}"
        )
    if found:
        lines.append(
            f"reads {found['read_bytes_per_second'] / 1e9:.1f} GB/s, multiplies {found['float32_flops'] / 1e9:.0f} "
            f"GFLOP/s in float32, {found['bfloat16_flops'] / 1e9:.0f} in bfloat16"
        )
    return "\n".join(lines)


def _processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
