"""Numbers by chapter, read off the names of the pages, and captions where they stand in the source.

`book/06_inference.md` is chapter 6 and `book/06l_many_devices.md` its section 6.12, whether or not the pages between
them are written; the appendices are A, B, C in their order. Headings inside a page have no number. Equations, figures,
tables and exercises count through a chapter, laboratories included: (6.1), Figure 6.1, Table 6.1, Exercise 6.1.

A paragraph that is emphasised as a whole, directly below a table or a cell that shows a figure or a table, is its
caption:

    *What the figure shows.*

`(fig-name)=` above the cell gives the figure its name, and {numref}`fig-name` refers to it.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector
from sphinx.transforms import SphinxTransform
from sphinx.writers.html5 import HTML5Translator

PAGE = re.compile(r"book/(\d\d)([a-z]?)_\w+")
APPENDIX = "book/appendices/"


def page_numbers(env: BuildEnvironment) -> dict[str, tuple[int | str, ...]]:
    """The number of every page that has one, as (chapter,), (chapter, section), (letter,) or (letter, section)."""
    numbers: dict[str, tuple[int | str, ...]] = {}
    for page in env.found_docs:
        if found := PAGE.fullmatch(page):
            chapter, letter = found.groups()
            numbers[page] = (int(chapter), ord(letter) - ord("a") + 1) if letter else (int(chapter),)
    appendices = [p for p in env.toctree_includes.get(env.config.root_doc, []) if p.startswith(APPENDIX)]
    for k, page in enumerate(appendices):
        numbers[page] = (chr(ord("A") + k),)
        inner = [p for p in env.toctree_includes.get(page, []) if p.startswith(APPENDIX)]
        numbers |= {p: (*numbers[page], i) for i, p in enumerate(inner, start=1)}
    return numbers


def number(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give every page its number and no heading in it another one, then count; return the pages that have changed."""
    numbers, before = page_numbers(env), getattr(env, "page_numbers", {})
    env.page_numbers = numbers
    env.toc_secnumbers = {}
    for page, contents in env.tocs.items():
        own = numbers.get(page, ())
        env.toc_secnumbers[page] = {reference["anchorname"]: () for reference in own_references(contents)} | {"": own}
        for reference in own_references(contents):
            reference["secnumber"] = list(own) if own and not reference["anchorname"] else None
        env.titles[page]["secnumber"] = list(own) or None
    renumbered = [page for page in env.tocs if numbers.get(page) != before.get(page)]
    return renumbered + TocTreeCollector().assign_figure_numbers(env)


def own_references(contents: nodes.Element) -> list[nodes.reference]:
    """The references of a page's contents to its own headings, without those of the pages below it."""
    return [p[0] for p in contents.findall(addnodes.compact_paragraph) if isinstance(p[0], nodes.reference)]


class captioned_table(nodes.figure):
    """A table that a cell shows, with its caption: counted as a table, set as a figure."""


class Captions(SphinxTransform):
    """Make the emphasised paragraph below a figure or a table its caption."""

    default_priority = 600  # after targets have moved to what they name

    def apply(self, **_: object) -> None:
        for paragraph in list(self.document.findall(nodes.paragraph)):
            if len(paragraph) != 1 or not isinstance(paragraph[0], nodes.emphasis):
                continue
            place = paragraph.parent.index(paragraph)
            above = paragraph.parent[place - 1] if place else None
            if isinstance(above, nodes.table):
                self.caption_table(above, paragraph)
            elif isinstance(above, nodes.container) and "cell" in above["classes"]:
                shown = " ".join(raw.astext() for raw in above.findall(nodes.raw))
                for mark, kind in (('class="tfguide-figure"', nodes.figure), ("<table", captioned_table)):
                    if mark in shown:
                        self.caption_cell(above, paragraph, kind)
                        break

    def caption_table(self, table: nodes.table, paragraph: nodes.paragraph) -> None:
        paragraph.parent.remove(paragraph)
        table.insert(0, nodes.title("", "", *paragraph[0].children))
        if not table["ids"]:
            self.document.note_implicit_target(table)

    def caption_cell(self, cell: nodes.container, paragraph: nodes.paragraph, kind: type[nodes.figure]) -> None:
        figure, parent = kind(), cell.parent
        figure["classes"].append("captioned")
        parent.replace(cell, figure)
        parent.remove(paragraph)
        caption = nodes.caption("", "", *paragraph[0].children)
        figure += [caption, cell] if kind is captioned_table else [cell, caption]
        for what in ("ids", "names"):  # the name that stands above the cell is the figure's
            figure[what], cell[what] = cell[what], []
        for identifier in figure["ids"]:
            self.document.ids[identifier] = figure
        if not figure["ids"]:
            self.document.note_implicit_target(figure)


def setup(app: Sphinx) -> dict[str, bool]:
    # After the collectors of Sphinx, which count the pages of a contents tree as they stand in it.
    app.connect("env-get-updated", number, priority=900)
    app.add_enumerable_node(
        captioned_table, "table", html=(HTML5Translator.visit_figure, HTML5Translator.depart_figure)
    )
    app.add_transform(Captions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
