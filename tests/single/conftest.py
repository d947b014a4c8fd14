"""Tests with one framework installed, as the variable TFGUIDE_ONLY or the environment has it.

`make test-single` runs them in two real environments. tests/test_single.py runs them in `make test`, and sets
TFGUIDE_ONLY to the framework that stays: the other one then cannot be imported.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

OTHERS = {"torch": ("tensorflow", "keras", "keras_hub"), "tensorflow": ("torch",)}
ONLY = os.environ.get("TFGUIDE_ONLY")


class Hiding(PathFinder):
    """Finds every package but those of the other framework, as where they are not installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.split(".")[0] in OTHERS[ONLY] else super().find_spec(fullname, path, target)


if ONLY:
    sys.meta_path[:] = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]


def installed(name):
    """Whether a package can be imported."""
    return importlib.util.find_spec(name) is not None


def pytest_report_header():
    return "frameworks: " + ", ".join(name for name in OTHERS if installed(name))
