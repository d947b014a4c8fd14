"""The citation and the changelog name the version of the package, and invent nothing."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import tfguide
from tfguide.figures import citation

ROOT = Path(__file__).resolve().parents[2]
FILE = citation.read_citation(ROOT / "CITATION.cff")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
#: What the schema of version 1.2.0 asks for, and what else this file holds; a DOI or an address would have to exist.
WANTED = {"cff-version", "message", "title", "authors"}
ALLOWED = WANTED | {"abstract", "type", "version", "license", "keywords", "preferred-citation"}


def test_the_file_has_the_form_of_the_schema():
    assert FILE["cff-version"] == "1.2.0" and WANTED <= set(FILE) <= ALLOWED
    assert FILE["type"] in ("software", "dataset") and isinstance(FILE["version"], str)
    for about in (FILE, FILE["preferred-citation"]):
        assert about["authors"] and all(set(one) == {"name"} for one in about["authors"])
    assert {"type", "title", "authors"} <= set(FILE["preferred-citation"])
    assert isinstance(FILE["preferred-citation"]["year"], int)


def test_it_says_what_the_package_and_the_book_say():
    assert FILE["version"] == PROJECT["version"] == tfguide.__version__
    assert FILE["title"] == PROJECT["name"] and FILE["abstract"] == PROJECT["description"]
    assert FILE["license"] == PROJECT["license"]
    book = FILE["preferred-citation"]
    assert book["title"] == CONFIG["title"] and str(book["year"]) == CONFIG["copyright"]
    for about in (FILE, book):
        assert [one["name"] for one in about["authors"]] == [one["name"] for one in PROJECT["authors"]]
        assert [one["name"] for one in about["authors"]] == [CONFIG["author"]]


def test_bibtex_has_the_facts_of_the_file_and_nothing_else():
    made = {
        "title": "t", "type": "software", "version": "7.1", "authors": [{"name": "A group"}, {"name": "B"}],
        "preferred-citation": {"type": "book", "title": "A Book", "authors": [{"name": "A group"}], "year": 1999},
    }  # fmt: skip
    book, software = citation.bibtex(made).split("\n\n")
    assert book == ("@book{t,\n  author = {{A group}},\n  title  = {{A Book}},\n  year   = {1999}\n}")
    assert software.startswith("@misc{t-software,\n  author = {{A group} and {B}},\n")
    assert "note   = {Version 7.1}" in software and "doi" not in software
    with pytest.raises(KeyError):
        citation.bibtex(made | {"type": "painting"})
    with pytest.raises(KeyError):
        citation.bibtex({"title": "t"})


def test_the_newest_entry_of_the_changelog_is_of_this_version_or_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text()
    entries = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^## ", text, re.MULTILINE)) > 0
    names = [name for name, _ in entries]
    assert names[0] in ("Unreleased", tfguide.__version__) and len(set(names)) == len(names)
    released = [(name, date) for name, date in entries if name != "Unreleased"]
    assert all(date for _, date in released) and released == sorted(released, key=lambda one: one[1], reverse=True)
    if released:
        assert released[0][0] == tfguide.__version__
    else:
        assert f"the first one will be {tfguide.__version__}" in text
