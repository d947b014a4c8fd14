"""The docstrings of the standard library of the Python that runs, without importing it."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Collection, Iterator
from pathlib import Path


def modules(left_out: Collection[str] = (), among: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
    """The name and the source of each module that is written in Python, in the order of the files.

    left_out: modules and packages, of any depth, of which nothing is read; among: those of the top to look into;
    default: all.
    """
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if not set(left_out).isdisjoint(parts) or (among is not None and parts[0] not in among):
            continue  # before it is read: below site-packages there may be far more than in the library
        yield ".".join(parts).removesuffix(".__init__"), file.read_text(encoding="utf-8", errors="replace")


def documented(source: str) -> Iterator[tuple[str, ast.AST, str]]:
    """What has a docstring in a source: its dotted name, "" for the module, its node, and the docstring.

    In the order of the source, classes before what stands in them. A source that does not parse has none.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    yield from _documented("", tree)


def _documented(name, node):
    if text := ast.get_docstring(node):
        yield name, node, text.strip()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _documented(f"{name}.{child.name}".lstrip("."), child)
