"""Whatever a docstring, a comment or a page cites by author and year stands in the bibliography with that year."""

import json
import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NAME = r"[A-Z][\w’'-]*[a-z][\w’'-]*|DeepSeek-AI"
#: One surname alone, two of them, three, the first of many, or a team; then the year.
CITATION = re.compile(
    rf"\b((?:{NAME})(?:(?:, (?:{NAME}))*(?: and | & )(?:{NAME})| et al\.| Team)?),? \(?((?:19|20)\d\d)\b(?!-\d)"
)
#: A capital before a year that is no author: months, versions, names of tables and machines.
NO_AUTHOR = {"In", "Of", "From", "Since", "Until", "January", "February", "March", "April", "May", "June", "July",
             "August", "September", "October", "November", "December", "WikiText", "Llama", "Python"}  # fmt: skip


def plain(text):
    """Without accents and braces, in one line."""
    text = unicodedata.normalize("NFKD", re.sub(r"\\.|[{}]", "", text))
    return " ".join("".join(c for c in text if not unicodedata.combining(c)).split())


def bibliography():
    """The surnames of the authors and the year of every entry."""
    entries = []
    for body in re.findall(r"@\w+\{[^,]+,(.*?)\n\}", (ROOT / "book/references.bib").read_text(), flags=re.DOTALL):
        fields = dict(re.findall(r"^\s*(author|year)\s*=\s*\{(.*)\},?\s*$", body, flags=re.MULTILINE))
        surnames = [plain(author.split(",")[0]) for author in fields["author"].split(" and ")]
        entries.append((surnames, fields["year"]))
    return entries


ENTRIES = bibliography()


def texts():
    """Every text that may cite, by the name of its file."""
    for path in sorted([*ROOT.glob("tfguide/**/*.py"), *ROOT.glob("book/**/*.md"), ROOT / "README.md"]):
        yield path.relative_to(ROOT).as_posix(), re.sub(r"\n\s*#:? ", " ", path.read_text())
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        yield path.relative_to(ROOT).as_posix(), "\n".join("".join(c["source"]) for c in cells)


def citations(text):
    """The authors and the year of each citation."""
    found = CITATION.findall(plain(text))
    return [(authors, year) for authors, year in found if authors not in NO_AUTHOR and not authors.startswith("arXiv")]


def stands(authors, year, entries):
    """Does an entry have these authors, in this number, and this year?"""
    if authors.endswith(" et al."):
        first = authors.removesuffix(" et al.")
        return any(s[0] == first and (len(s) > 2 or s[-1] == "others") and y == year for s, y in entries)
    named = re.split(r", | and | & ", authors)
    return any(s == named and y == year for s, y in entries)


TEXTS = dict(texts())


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if citations(text)])
def test_what_is_cited_stands_in_the_bibliography(name):
    missing = [f"{authors} {year}" for authors, year in citations(TEXTS[name]) if not stands(authors, year, ENTRIES)]
    assert missing == []


def test_enough_is_cited():
    assert sum(len(citations(text)) for text in TEXTS.values()) > 60


def test_a_wrong_year_is_seen():
    entries = [(["Press", "Smith", "Lewis"], "2022"), (["Shazeer"], "2019"), (["Rabe", "Staats"], "2021")]
    text = "Source: Press et\n    al. 2022; Rabe & Staats 2021, Shazeer 2019 (section 2). Since 2020."
    assert citations(text) == [("Press et al.", "2022"), ("Rabe & Staats", "2021"), ("Shazeer", "2019")]
    assert all(stands(authors, year, entries) for authors, year in citations(text))
    for authors, year in (("Press et al.", "2021"), ("Shazeer et al.", "2019"), ("Press", "2022"), ("Rabe", "2021")):
        assert not stands(authors, year, entries)
