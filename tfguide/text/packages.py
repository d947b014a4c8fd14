"""The packages of the extra `text`, imported when a text needs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def import_tokenizers() -> ModuleType:
    """The package `tokenizers`. Raises ImportError that says how to install it."""
    return _import("tokenizers", "text needs")


def import_jinja_sandbox() -> ModuleType:
    """The module `jinja2.sandbox`. Raises ImportError that says how to install it."""
    return _import("jinja2.sandbox", "a chat template needs")


def _import(name, what):
    package = name.split(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"{what} the package {package}: pip install 'tfguide[text]'") from None
