"""Each exercise is named where its page ends, with its grade and title, and each one that a page names exists."""

import re
from pathlib import Path

import pytest

from tfguide.exercises import EXERCISES
from tfguide.exercises.report import page_box

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = [path.stem for path in sorted(BOOK.glob("[0-9]*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_its_exercises(page):
    text, box = (BOOK / f"{page}.md").read_text(encoding="utf-8"), page_box(page.split("_")[0])
    assert text.count("{admonition} Check yourself") <= bool(box)
    if box:
        assert f"\n\n{box}\n## Sources\n" in text, f"{page}.md must have this box before its sources:\n\n{box}"
        assert text.index("\n## Exercises\n") < text.index(box)


def test_every_id_that_is_written_exists():
    pages = [*BOOK.rglob("*.md"), *(BOOK.parent / "notebooks").glob("*.ipynb"), BOOK.parent / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    named = set(re.findall(r"exercise (?:start|check|hint|solution|reset) ([a-z][a-z0-9-]+)", text))
    named |= set(re.findall(r'\bcheck\(\\?"([a-z][a-z0-9-]+)', text))
    assert {"causal-mask"} <= named <= {exercise.id for exercise in EXERCISES}
