"""Each listing of the package stands in full once; elsewhere a page shows a few of its lines and links to it."""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "book").rglob("*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
FEW = 6  # lines of an excerpt: about what is taken in at a glance

DIRECTIVE = re.compile(r"^(`{3,}|:{3,})\{literalinclude\}[ ]*(\S+)[ ]*\n(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"^:([\w-]+):[ ]*(.*?)[ ]*$", re.MULTILINE)


@dataclass(frozen=True)
class Listing:
    """One literalinclude: its page, its source file, and what it takes of it."""

    page: str
    file: Path
    options: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        return dict(self.options).get("pyobject", "")

    @property
    def lines(self) -> int:
        """How many lines a reader sees."""
        return len(shown(self.file.read_text(), dict(self.options)))

    @property
    def is_whole(self) -> bool:
        """Whether it shows an object in full, beyond what passes as an excerpt."""
        return not {"lines", "start-at", "start-after", "end-at", "end-before"} & dict(self.options).keys()


def listings(page: Path) -> list[Listing]:
    found = DIRECTIVE.findall(page.read_text())
    return [
        Listing(
            page.relative_to(ROOT).as_posix(),
            (page.parent / file).resolve(),
            tuple((name, value.strip("\"'")) for name, value in OPTION.findall(options)),  # YAML: quotes keep blanks
        )
        for _, file, options in found
    ]


def shown(source: str, options: dict[str, str]) -> list[str]:
    """The lines that the options leave of a source, as Sphinx cuts them: the object, then from start to end."""
    assert "lines" not in options, "numbers of lines move; name the first and the last by what stands in them"
    lines = source.splitlines()
    if options.get("pyobject"):
        first, last = extent(source, options["pyobject"])
        lines = lines[first - 1 : last]
    if "start-at" in options:
        start = next((i for i, line in enumerate(lines) if options["start-at"] in line), None)
        assert start is not None, f"no line has {options['start-at']!r}"
        lines = lines[start:]
    if "end-at" in options:
        end = next((i for i, line in enumerate(lines) if options["end-at"] in line), None)
        assert end is not None, f"no line has {options['end-at']!r}"
        lines = lines[: end + 1]
    return lines


def extent(source: str, name: str) -> tuple[int, int]:
    """The first and the last line of a function, a class or a method, from 1."""
    body = ast.parse(source).body
    for part in name.split("."):
        node = next(n for n in body if getattr(n, "name", None) == part)
        body = node.body
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]), node.end_lineno


def repeated(found: list[Listing]) -> list[str]:
    """What is printed in full more than once: the same object, or a long method and the class around it."""
    pages = defaultdict(list)
    for listing in found:
        if listing.is_whole:
            pages[listing.file, listing.name].append(listing.page)
    complaints = [
        f"{file.name}: {name or 'the file'} in full in {', '.join(where)}"
        for (file, name), where in pages.items()
        if len(where) > 1
    ]
    for (file, name), where in pages.items():
        around = next((outer for outer in outers(name) if (file, outer) in pages), None)
        if around and any(l.lines > FEW for l in found if (l.file, l.name) == (file, name)):
            complaints.append(f"{file.name}: {name} in {where[0]}, and within {around} in {pages[file, around][0]}")
    return complaints


def outers(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


@pytest.fixture(scope="module")
def found() -> list[Listing]:
    return [listing for page in PAGES for listing in listings(page)]


def test_the_pages_have_listings_to_read(found):
    assert len(found) > 40
    assert {"reference", "torch", "tensorflow"} <= {listing.file.parent.name for listing in found}


def test_no_listing_stands_in_full_twice(found):
    complaints = repeated(found)
    assert not complaints, "\n".join(complaints)


def test_an_excerpt_is_a_few_lines_of_what_stands_in_full_elsewhere(found):
    whole = {(listing.file, listing.name) for listing in found if listing.is_whole}
    for listing in found:
        if listing.name and not listing.is_whole:
            assert 1 <= listing.lines <= FEW, (listing.page, listing.name, listing.lines)
            printed = {listing.name, *outers(listing.name)} & {name for file, name in whole if file == listing.file}
            assert printed, f"{listing.page}: {listing.name} stands in full nowhere"


def test_the_three_implementations_are_shown_alike(found):
    """Where a page prints one framework, it prints the other; the reference may lack what only they have."""
    by_page = defaultdict(lambda: defaultdict(set))
    for listing in found:
        by_page[listing.page][listing.file.parent.name].add((listing.file.name, outers(listing.name + ".")[0]))
    for page, packages in by_page.items():
        assert packages["torch"] == packages["tensorflow"], page


def listing(page, name, **options):
    return Listing(
        page,
        ROOT / "tfguide/torch" / ("norms.py" if name.endswith("_norm") else "blocks.py"),
        (("pyobject", name), *((k.replace("_", "-"), v) for k, v in options.items())),
    )


@pytest.mark.parametrize(
    ("pages", "n_complaints"),
    [
        ([listing("a.md", "rms_norm"), listing("b.md", "rms_norm")], 1),
        ([listing("a.md", "rms_norm"), listing("a.md", "rms_norm")], 1),
        ([listing("a.md", "rms_norm"), listing("b.md", "layer_norm")], 0),
        ([listing("a.md", "rms_norm"), listing("b.md", "rms_norm", start_at="return")], 0),
        ([listing("a.md", "EncoderBlock"), listing("b.md", "EncoderBlock._residual")], 0),
        ([listing("a.md", "EncoderBlock"), listing("b.md", "EncoderBlock.forward")], 1),
    ],
)
def test_what_is_repeated_is_found(pages, n_complaints):
    assert len(repeated(pages)) == n_complaints


def test_the_directives_of_a_page_are_found():
    text = "```{literalinclude} ../x.py\n:pyobject: f\n:language: python\n```\n"
    text += "\n```{literalinclude} ../x.py\n:pyobject: g\n```\n"
    assert [dict(OPTION.findall(options))["pyobject"] for _, _, options in DIRECTIVE.findall(text)] == ["f", "g"]
