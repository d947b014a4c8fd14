"""Each exercise is named where its page ends, with its grade and title, and each one that a page names exists."""

import re
from pathlib import Path

import pytest

from tfguide.exercises import EXERCISES

BOOK = Path(__file__).resolve().parents[2] / "book"
BOX = re.compile(r"^(:{3,})\{admonition\} Check yourself\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
PAGES = [path.stem for path in sorted(BOOK.glob("[0-9]*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_its_exercises(page):
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    own = [exercise for exercise in EXERCISES if exercise.page == page]
    boxes = BOX.findall(text)
    assert len(boxes) == bool(own), f"expected a box 'Check yourself' at the end of {page}"
    if own:
        listed = re.findall(r"^\* (.*)$", boxes[0][1], re.MULTILINE)
        assert listed == [f"`{e.id}`, grade {e.grade}: {e.title}" for e in own]
        assert text.index("\n## Exercises\n") < BOX.search(text).start() < text.index("\n## Sources\n")


def test_every_id_that_is_written_exists():
    pages = [*BOOK.rglob("*.md"), *(BOOK.parent / "notebooks").glob("*.ipynb"), BOOK.parent / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    named = set(re.findall(r"exercise (?:start|check|hint|solution|reset) ([a-z][a-z-]+)", text))
    named |= set(re.findall(r'\bcheck\(\\?"([a-z][a-z-]+)', text))
    assert {"causal-mask"} <= named <= {exercise.id for exercise in EXERCISES}
