"""Docstrings as they stand in the source, read by Sphinx.

The docstrings of tfguide are plain text. Single backticks mark code (`default_role` in _config.yml), and an indented
block after a colon is shown as it was typed, which reStructuredText would call a quotation and set as running text.
"""

from sphinx.application import Sphinx


def keep_indented_blocks(app, what, name, obj, options, lines: list[str]) -> None:
    """Turn `text:`, an empty line and an indented block into a literal block, in place."""
    for k in range(len(lines) - 2):
        line, gap, block = lines[k : k + 3]
        opens = line.rstrip().endswith(":") and not line.rstrip().endswith("::")
        indent = len(line) - len(line.lstrip())
        indented = len(block) - len(block.lstrip()) > indent
        if opens and not gap.strip() and indented and not block.lstrip().startswith((">>>", "* ", "- ")):
            lines[k] = line.rstrip() + ":"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", keep_indented_blocks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
