"""The packages of an extra, imported when they are needed: those of `text`, and how those of others are."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def import_tokenizers() -> ModuleType:
    """The package `tokenizers`. Raises ImportError that says how to install it."""
    return import_extra("tokenizers", "text needs", "text")


def import_jinja_sandbox() -> ModuleType:
    """The module `jinja2.sandbox`. Raises ImportError that says how to install it."""
    return import_extra("jinja2.sandbox", "a chat template needs", "text")


def import_extra(name: str, what: str, extra: str) -> ModuleType:
    """A module of a package that an extra installs; what: who needs it, as the message of the ImportError begins."""
    package = name.split(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(f"{what} the package {package}: pip install 'tfguide[{extra}]'") from None
