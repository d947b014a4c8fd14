"""Chapters, sections, equations, figures, tables and exercises are numbered by the names of the pages."""

import html
import re
from pathlib import Path

import pytest

from tests.book.chromium import PAGES

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = tuple(f"book/{n:02}" for n in range(1, 11))
KINDS = {
    "equation": r'<span class="eqno">\(([\w.]+)\)',
    "figure": r'<span class="caption-number">Figure ([\w.]+) ',
    "table": r'<span class="caption-number">Table ([\w.]+) ',
    "exercise": r'<p class="admonition-title">(?:<span class="caption-number">)?Exercise ([\d.]+)',
}


@pytest.fixture(scope="module")
def pages(html_folder):
    """The article of every page, by its name, in the order of the book."""
    texts = {}
    for name in PAGES:
        text = (html_folder / f"{name}.html").read_text(encoding="utf-8")
        texts[name] = text[text.index("<article") : text.index("</article>")] if "<article" in text else text
    return texts


def number_of(page):
    """The number that the name of a page gives it, empty where it gives none."""
    found = re.fullmatch(r"book/(\d\d)([a-z]?)_\w+", page)
    if not found:
        return ""
    chapter, letter = found.groups()
    return f"{int(chapter)}.{ord(letter) - 96}" if letter else str(int(chapter))


def test_a_page_has_the_number_of_its_name(pages):
    assert number_of("book/06l_many_devices") == "6.12" and number_of("book/04_mathematics") == "4"
    shown = {}
    for name, text in pages.items():
        title = re.search(r"<h1>(?:<span class=\"section-number\">(.*?)\. ?</span>)?", text)
        shown[name] = (title.group(1) or "") if title else ""
    chapters = {name for name in shown if number_of(name)}
    assert len(chapters) > 10
    assert {name: shown[name] for name in chapters} == {name: number_of(name) for name in chapters}
    appendices = [shown[name] for name in shown if re.fullmatch(r"book/appendices/(?!api_)\w+", name)]
    assert appendices == [chr(ord("A") + k) for k in range(len(appendices))]
    assert all(not shown[name] for name in shown if name.startswith("notebooks/") or name == "book/index")


def test_no_heading_inside_a_page_has_a_number(pages):
    for name, text in pages.items():
        assert not re.search(r'<h[2-6]><span class="section-number">', text), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_chapter_counts_from_one(pages, kind):
    """In the order of the pages, laboratories included, without a gap."""
    for chapter in CHAPTERS:
        part = chapter.removeprefix("book/")
        order = [name for name in pages if name.startswith((chapter, f"notebooks/{part}"))]
        numbers = [n for name in order for n in re.findall(KINDS[kind], pages[name])]
        assert numbers == [f"{int(part)}.{k}" for k in range(1, len(numbers) + 1)], (chapter, kind)
    everywhere = [n for text in pages.values() for n in re.findall(KINDS[kind], text)]
    assert everywhere and all("." in number for number in everywhere)


def test_every_figure_has_a_numbered_caption(pages):
    bare = []
    for name, text in pages.items():
        for place in re.finditer(r'<svg class="tfguide-figure"[^>]*aria-label="([^"]*)"', text):
            before = text[: place.start()]
            if before.count("<figure") == before.count("</figure>"):
                bare.append(f"{name}: {html.unescape(place.group(1))[:90]}")
    assert bare == []
