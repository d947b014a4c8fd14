"""Tests with one framework installed, as the variable TFGUIDE_ONLY or the environment has it.

`make test-single` runs them in two real environments. tests/test_single.py runs them in `make test`, and sets
TFGUIDE_ONLY to the framework that stays: the other one then cannot be imported.
"""

import importlib.util
import os
import sys

OTHERS = {"torch": ("tensorflow", "keras", "keras_hub"), "tensorflow": ("torch",)}
ONLY = os.environ.get("TFGUIDE_ONLY")


class Hidden:
    """A finder that says of some packages what Python says of those that are not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in OTHERS[ONLY]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if ONLY:
    sys.meta_path.insert(0, Hidden())
    sys.modules.pop("torch", None)


def installed(name):
    """Whether a package can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def pytest_report_header():
    return "frameworks: " + ", ".join(name for name in OTHERS if installed(name))
