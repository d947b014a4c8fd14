"""What the page folds out: how a check went for two versions of a function, and in which lines they differ."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import Markdown


def verdict(check: Callable, versions: Mapping[str, ModuleType], *arguments: Any) -> str:
    """The name of a check, and a line for each version: it passes, or what the check says."""
    lines = [check.__name__]
    for name, bugs in versions.items():
        try:
            check(bugs, *arguments)
            lines.append(f"  {name}: passes")
        except AssertionError as error:
            lines.append(f"  {name}: FAILS,\n    {error}")
    return "\n".join(lines)


def difference(broken: ModuleType, fixed: ModuleType, name: str) -> str:
    """The lines that correct a function, with - and + before them."""
    old, new = (inspect.getsource(getattr(module, name)).splitlines() for module in (broken, fixed))
    return "\n".join(f"{line[0]} {line[2:].strip()}" for line in difflib.ndiff(old, new) if line[0] in "-+")


def folded(check: Callable, pairs: Mapping[str, tuple[ModuleType, ModuleType]], *arguments: Any) -> Markdown:
    """The verdicts on every pair (broken, corrected), and then the corrections."""
    from IPython.display import Markdown

    versions = {}
    for kind in (0, 1):
        for name, pair in pairs.items():
            versions[", ".join(filter(None, (("broken", "corrected")[kind], name)))] = pair[kind]
    name = check.__name__.removeprefix("check_")
    changes = "\n\n".join(difference(*pair, name) for pair in pairs.values())
    return Markdown(f"```text\n{verdict(check, versions, *arguments)}\n```\n\n```diff\n{changes}\n```")
