"""How the book and the package are cited: entries of BibTeX from the file CITATION.cff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = {"book": "book", "software": "misc"}  # of the Citation File Format, and of BibTeX


def read_citation(path: Path) -> dict[str, Any]:
    """The contents of a file in the Citation File Format (https://citation-file-format.github.io/), version 1.2.0."""
    import yaml  # comes with Jupyter Book

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def bibtex(citation: Mapping[str, Any]) -> str:
    """An entry for the preferred citation and one for the software itself, with what the file says and nothing else.

    The year of the software is that of the preferred citation, where it has none itself. Raises KeyError for a file
    without authors, title, type or preferred citation, and for a type that is not in `KINDS`.
    """
    preferred = citation["preferred-citation"]
    software = {"year": preferred["year"], **citation}
    return f"{_entry(preferred, citation['title'])}\n\n{_entry(software, citation['title'] + '-software')}"


def _entry(about, key):
    fields = {
        "author": " and ".join(f"{{{one['name']}}}" for one in about["authors"]),
        "title": f"{{{about['title']}}}",
        "year": about["year"],
        "note": f"Version {about['version']}" if "version" in about else "",
    }
    lines = [f"  {name:<6} = {{{value}}}" for name, value in fields.items() if value]
    return f"@{KINDS[about['type']]}{{{key},\n" + ",\n".join(lines) + "\n}"
