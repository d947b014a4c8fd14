"""Fair timing: contestants take turns, so that a drift of the machine's speed affects all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata

from tfguide.checks.values import check_count


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


def machine() -> dict:
    """The machine of a measurement: the processor, the cores this process may use, Python and installed versions."""
    packages = ("numpy", "torch", "tensorflow", "keras", "keras-hub", "transformers", "llama-cpp-python")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


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
