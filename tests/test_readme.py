"""The README is right: its Python runs and prints what it shows, and what it links to exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)


def test_every_python_block_shows_its_output():
    assert len(BLOCKS) == README.count("```python") >= 2


@pytest.mark.parametrize("last", range(len(BLOCKS)))
def test_python_prints_what_the_readme_shows(last, capsys):
    """A block may use what the ones before it made."""
    for package in ("torch", "tensorflow"):
        pytest.importorskip(package)
    names = {}
    for code, output in BLOCKS[: last + 1]:
        exec(compile(code, "README.md", "exec"), names)
        assert capsys.readouterr().out == output


def test_links_and_paths_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    paths = [path for row in re.findall(r"^\| (`.*?) \|", README, re.MULTILINE) for path in re.findall(r"`(.*?)`", row)]
    assert "book/_static/readme.svg" in links
    assert [name for name in links if not (ROOT / name).exists()] == []
    assert [path for path in paths if not any((ROOT / folder / path).exists() for folder in ("", "tfguide"))] == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README)) | {"book"}
    assert named <= targets
