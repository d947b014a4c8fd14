"""Docstrings and signatures as they stand in the source, read by Sphinx.

The docstrings of tfguide are plain text. Single backticks mark code (`default_role` in _config.yml), and an indented
block after a colon is shown as it was typed, which reStructuredText would call a quotation and set as running text.
Lines that begin with the name of a parameter and a colon are a list, one item for each.
"""

import inspect
import re
from typing import Protocol

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature


def keep_indented_blocks(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn `text:`, an empty line and an indented block into a literal block, in place."""
    for k in range(len(lines) - 2):
        line, gap, block = lines[k : k + 3]
        opens = line.rstrip().endswith(":") and not line.rstrip().endswith("::")
        indent = len(line) - len(line.lstrip())
        indented = len(block) - len(block.lstrip()) > indent
        if opens and not gap.strip() and indented and not block.lstrip().startswith((">>>", "* ", "- ")):
            lines[k] = line.rstrip() + ":"


PARAMETER = re.compile(r"[a-z_]\w*(?:, [a-z_]\w*)*: \S")


def list_parameters(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn lines `name: what it is` into a list, in place; a new sentence on a new line after an item ends the list."""
    out, listing = [], False
    for line in lines:
        ended = not out or not out[-1].strip() or out[-1].rstrip().endswith((".", ":"))
        if PARAMETER.match(line) and (listing or ended):
            out += ([] if listing else [""]) + ["* `" + line.replace(": ", "`: ", 1)]
            listing = True
        elif listing and line.strip() and not (line[:1].isupper() and ended):
            out.append("  " + line)
        else:
            out += ["", line] if listing else [line]
            listing = False
    lines[:] = out


def sign_classes(app, what, name, obj, options, signature, annotation) -> tuple[str, str] | None:
    """The parameters of a class's `__init__`: Keras puts a `__new__(*args, **kwargs)` in front, which says nothing.

    A protocol has none, since nobody makes one.
    """
    if what == "class" and Protocol in obj.__bases__:
        return "", ""
    if what != "class" or "__init__" not in vars(obj):
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]  # without self
    return stringify_signature(inspect.Signature(parameters), unqualified_typehints=True), annotation


def skip_borrowed(app, what, name, obj, skip, options) -> bool | None:
    """Leave out of a class what is not written in it: another name of a module's function, an attribute set to None."""
    borrowed = obj is None or (inspect.isfunction(obj) and "." not in obj.__qualname__)
    return True if what == "class" and borrowed else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", keep_indented_blocks)
    app.connect("autodoc-process-docstring", list_parameters)
    app.connect("autodoc-process-signature", sign_classes)
    app.connect("autodoc-skip-member", skip_borrowed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
