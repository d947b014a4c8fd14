"""Texts of the reader's own: what a file may be, and what is said of one that is something else."""

import pytest

from tests.support import refuses
from tfguide.tasks import docstrings, documentation, roles, text, translation
from tfguide.tasks.own import read_columns, read_text

READERS = {
    "pairs": translation.read_pairs, "labelled": docstrings.read_labelled, "summaries": docstrings.read_summaries,
    "sentences": roles.read_sentences, "documents": documentation.documents, "topics": text.topics,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_in_another_encoding_is_refused_by_name(reader, tmp_path):
    (tmp_path / "mine.txt").write_bytes("größer\tB-V\n".encode("latin-1"))
    with refuses(ValueError, "mine.txt: expected a text in UTF-8, got other bytes at 2"):
        reader(tmp_path / "mine.txt")


def test_a_mark_at_the_beginning_and_the_ends_of_lines_of_windows_are_no_text(tmp_path):
    (tmp_path / "mine.tsv").write_bytes("\ufeff eins \tone\r\n\r\nzwei\ttwo".encode())
    assert list(read_columns(tmp_path / "mine.tsv", "two words")) == [("eins", "one"), ("zwei", "two")]
    assert read_text(tmp_path / "mine.tsv").startswith(" eins")


@pytest.mark.parametrize("line", ["one", "one\t", "\tone", "one\ttwo\tthree"])
def test_a_line_that_is_not_two_columns_is_refused_by_its_number(line, tmp_path):
    (tmp_path / "mine.tsv").write_text(f"a\tb\n{line}\n", encoding="utf-8")
    with refuses(ValueError, "mine.tsv, line 2: expected two words, got"):
        list(read_columns(tmp_path / "mine.tsv", "two words"))


def test_a_file_without_a_line_is_refused(tmp_path):
    (tmp_path / "mine.tsv").write_text("\n \n", encoding="utf-8")
    with refuses(ValueError, "mine.tsv holds nothing: expected two words on each line"):
        list(read_columns(tmp_path / "mine.tsv", "two words"))
