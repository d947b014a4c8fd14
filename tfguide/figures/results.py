"""Where the numbers of the book come from: the commands, the machines and the versions behind every committed result.

`book/appendices/commands.toml` names the commands and their files; the rest is read from the files themselves, from the
pages that read them, from `constraints.txt` and from `pyproject.toml`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfguide.figures.tables import Cell, table

if TYPE_CHECKING:
    from IPython.display import HTML

BOOK = "book/appendices"


@dataclass(frozen=True)
class Made:
    """Committed files and how they came about.

    part: of the table in the book; files: paths from the top of the repository, where a folder stands for all that is
    in it; commands: what writes them, in this order, empty for what was written by hand; how: a sentence for that.
    """

    part: str
    files: tuple[str, ...]
    commands: tuple[str, ...] = ()
    how: str = ""


@dataclass(frozen=True)
class Source:
    """What a result says of its origin; every field is empty where it says nothing.

    versions: of the packages that the result names, without Python's.
    """

    machine: str = ""
    python: str = ""
    versions: tuple[tuple[str, str], ...] = ()


def read_made(root: Path) -> list[Made]:
    """What `commands.toml` lists. root: the top of the repository. Raises KeyError for an entry without files."""
    found = tomllib.loads((root / BOOK / "commands.toml").read_text(encoding="utf-8"))
    return [
        Made(part, tuple(one["files"]), tuple(one.get("commands", ())), one.get("how", ""))
        for part, entries in found.items()
        for one in entries
    ]


def source_of(result: Any) -> Source:
    """The origin of a result, as `tfguide.bench` and `tfguide train` write it into their JSON."""
    if not isinstance(result, dict):
        return Source()
    about = result.get("machine", {})
    versions = dict(about.get("versions", {})) | dict(result.get("versions", {}))
    python = about.get("python") or versions.get("Python") or versions.get("python", "")
    if "processor" in about:
        words = [about["processor"], f"{about['cores']} cores", about.get("level", "")]
    else:
        words = [versions.get("machine", ""), versions.get("kernels", "")]
    named = ("Python", "python", "tfguide", "machine", "kernels", "compiler")  # no packages that are installed
    kept = tuple((name, version) for name, version in versions.items() if name not in named)
    return Source(", ".join(filter(None, words)), python, kept)


def read_source(path: Path) -> Source:
    """The origin that a file names: of JSON what it says, and nothing of another file or of a folder."""
    if path.suffix != ".json" or not path.is_file():
        return Source()
    return source_of(json.loads(path.read_text(encoding="utf-8")))


def read_pins(root: Path) -> dict[str, str]:
    """The exact versions, by package: those of `constraints.txt`, and those that `pyproject.toml` pins itself."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines += [one for some in project["optional-dependencies"].values() for one in some]
    found = (re.fullmatch(r"([\w.-]+)==([\w.+]+)", line) for line in lines)
    return {_normal(one[1]): one[2] for one in found if one}


def differing(source: Source, pins: dict[str, str]) -> list[str]:
    """The versions of a result that are not the pinned ones: "name version", a local version such as +cpu aside."""
    return [f"{name} {got}" for name, got in source.versions if pins.get(_normal(name)) != got.partition("+")[0]]


def readers(path: str, pages: dict[str, str]) -> list[str]:
    """The pages whose code reads a result. path: from the top of the repository; pages: {name: text}."""
    folder, name = path.rsplit("/", 2)[-2:]
    stem = name.removesuffix(".json")
    at_the_top = folder in ("appendices", "benchmarks")

    def reads(text):
        if re.search(rf"(?<![\w-]){re.escape(name)}", text) and (
            at_the_top or f"{folder}/{name}" in text or f'"{folder}"' in text
        ):
            return True
        if f"{folder}/{{" in text and f'"{stem}"' in text:  # a name that a loop puts in
            return True
        if (shared := re.search(rf"{folder}/(\w+_)\{{", text)) and stem.startswith(shared[1]):
            return f'"{stem.removeprefix(shared[1])}"' in text
        if (shared := re.search(r'f"(\w+_)\{\w+\}\*\.json"', text)) and stem.startswith(shared[1]):
            return f'"{folder}"' in text
        # A whole folder is read by the cell that names it.
        cells = [cell for cell in text.split("```") if re.search(r"(read_results|predictions_in|contests)\(", cell)]
        return not at_the_top and any(f'"{folder}"' in cell for cell in cells)

    return [page for page, text in pages.items() if reads(text)]


def section_of(page: str) -> str:
    """What a reader calls a page: "6.4" for 06d_tiles, "9" for 09_trends, its name for a page without a number."""
    found = re.fullmatch(r"(\d\d)([a-z]?)_\w+", page)
    if not found:
        return page.replace("_", " ")
    return f"{int(found[1])}.{ord(found[2]) - 96}" if found[2] else str(int(found[1]))


def results_table(root: Path, made: Iterable[Made]) -> HTML:
    """A line for each file: its name, the sections that read it, the machine, Python and what is not as pinned.

    root: the top of the repository. Above the files of an entry stand its commands, and above a part its name.
    """
    pages = {page.stem: page.read_text(encoding="utf-8") for page in sorted((root / "book").rglob("*.md"))}
    pins = read_pins(root)
    lines: list[Sequence[object]] = []
    last = None
    for one in made:
        lines += [(Cell(one.part, columns=3, is_head=True),)] if one.part != last else []
        last = one.part
        lines += [(Cell(text, columns=3, is_code=True),) for text in one.commands]
        lines += [(Cell(one.how, columns=3),)] if one.how else []
        lines += [_line(root, file, pages, pins) for path in one.files for file in _files(root, path)]
    return table(("file", "read in", "measured on"), lines)


def machines_table(root: Path, made: Iterable[Made]) -> HTML:
    """A line for each machine that a result names: the Python versions there, and how many files it measured."""
    counts: dict[tuple[str, str], int] = {}
    for _, source in sources(root, made):
        if source.machine:
            counts[source.machine, source.python] = counts.get((source.machine, source.python), 0) + 1
    rows = [(machine, python, count) for (machine, python), count in sorted(counts.items())]
    return table(("machine", "Python", "results"), rows, numbers=True)


def versions_table(root: Path, made: Iterable[Made]) -> HTML:
    """A line for each package that this project asks for: the pinned version, the range, and what results name."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for some in project["optional-dependencies"].values() for one in some)]
    split = (re.match(r"([\w.-]+)(\[.*\])?(.*)", one) for one in wanted)
    ranges = {_normal(one[1]): one[3] for one in split if one[1] != project["name"]}
    pins, seen = read_pins(root), {}
    for _, source in sources(root, made):
        for name, version in source.versions:
            seen.setdefault(_normal(name), set()).add(version)
    rows = [(name, pins.get(name, ""), ranges[name], ", ".join(sorted(seen.get(name, ())))) for name in sorted(ranges)]
    return table(("package", "exact version", "range", "named by results"), rows)


def sources(root: Path, made: Iterable[Made]) -> list[tuple[str, Source]]:
    """(path, origin) of each listed file."""
    return [(file, read_source(root / file)) for one in made for path in one.files for file in _files(root, path)]


def _normal(package):
    """The name of a package as pip compares it."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _files(root, path):
    """A file itself; of a folder the JSON results in it, or the folder where it holds a model."""
    inside = sorted((root / path).glob("*.json"))
    if (root / path).is_dir() and inside and not (root / path / "config.json").exists():
        return [one.relative_to(root).as_posix() for one in inside]
    return [path]


def _line(root, file, pages, pins):
    source = read_source(root / file)
    python = [f"Python {source.python}"] if source.python else []
    below = ", ".join([*python, *differing(source, pins)])
    read_in = ", ".join(section_of(page) for page in readers(file, pages)) if file.endswith(".json") else ""
    return Cell(file.removeprefix(f"{BOOK}/"), is_code=True), read_in, Cell(source.machine, below)
