"""Every row of the errata quotes the source, says what is right, and links to where it is shown."""

import re
from pathlib import Path

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGE = (BOOK / "appendices" / "errata.md").read_text()
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if re.match(r"\| [\dF]", line)]
#: Rows that wait for their page: as soon as it is there, they must link to it.
WAITING = {"6.1": "07a_translation.md", "6.2": "07b_summarisation.md", "6.4": "07d_roles.md"}
SECTIONS = [
    "1", "2.1", "2.2", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "5.1", "5.2", "5.3", "6.1", "6.2", "6.4", "6.5", "7",
    "8.1", "8.2", "8.3", "8.4", "FAQ",
]  # fmt: skip


def test_every_row_is_whole():
    assert len(ROWS) > 50
    for row in ROWS:
        assert len(row) == 4 and all(cell.strip() for cell in row), row
        assert re.fullmatch(r" .+<br>\*(wrong|loose|missing)\* ", row[0]), row[0]


def test_every_row_links_to_its_proof():
    for where, _, _, link in ROWS:
        page = WAITING.get(where.split("<")[0].strip())
        if page and not (BOOK / page).exists():
            continue
        assert re.search(r"\[[^\]]+\]\(\S+\)", link), where


def test_the_sections_with_an_error_are_there():
    named = " ".join(row[0] for row in ROWS)
    assert [section for section in SECTIONS if not re.search(rf"(?<![\d.]){re.escape(section)}(?!\d)", named)] == []
