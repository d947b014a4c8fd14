"""The most memory that a contestant holds while it generates, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def measure(name: str, framework: str, folder: str, dtype: str, prompt_length: int, n_new: int) -> dict:
    """Bytes of resident memory: after the imports, after loading, and at the peak of a generation; Linux only.

    The peak is that of the generation: weights, cache and activations. The memory of the imports is subtracted, and the
    peak of loading is not counted. Returns an empty dictionary on other systems than Linux.
    """
    if not os.path.exists("/proc/self/clear_refs"):
        return {}
    arguments = json.dumps([name, framework, folder, dtype, prompt_length, n_new])
    done = subprocess.run(
        [sys.executable, "-m", "tfguide.bench.memory", arguments], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {"error": done.stderr[-500:]}


def _main(name, framework, folder, dtype, prompt_length, n_new):
    import ctypes
    import gc

    import numpy as np

    from tfguide.bench.contestants import enter, entrants
    from tfguide.loading import load_framework

    load_framework(framework)
    if name == "Hugging Face":
        import transformers  # noqa: F401
    if name == "KerasHub":
        import keras_hub  # noqa: F401
    before = resident("VmRSS")
    prompt = np.random.default_rng(0).integers(0, 100, (1, prompt_length))
    kind = entrants(framework, dtype, True)[name]
    contestant = enter(kind, framework, folder, dtype, prompt, n_new)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    loaded = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak of loading
    contestant.run(n_new)
    print(json.dumps({"loaded_bytes": loaded - before, "peak_bytes": resident("VmHWM") - before}))


def resident(key: str) -> int:
    """Bytes of this process's memory: "VmRSS" now, "VmHWM" at most; Linux only."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    _main(*json.loads(sys.argv[1]))
