"""What every task needs: texts of the reader's own from a file, and answers beside the right ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, without a byte order mark. Raises ValueError with its name where it is none."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: expected a text in UTF-8, got other bytes at {error.start}") from error


def read_columns(path: str | os.PathLike, expected: str) -> Iterator[tuple[str, str]]:
    """The two columns of a file in UTF-8, which a tab separates, without the spaces around them.

    expected: what the columns are, for the error. Empty lines are passed over. Raises ValueError with the number of a
    line that has not two columns with something in both, for a file without any, and as `read_text`.
    """
    found = 0
    for number, line in enumerate(read_text(path).split("\n"), 1):
        parts = [part.strip() for part in line.split("\t")]
        if parts == [""]:
            continue
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{os.fspath(path)}, line {number}: expected {expected}, got {line!r:.60}")
        found += 1
        yield parts[0], parts[1]
    if not found:
        raise ValueError(f"{os.fspath(path)} holds nothing: expected {expected} on each line")


def check_answers(given: Sequence, wanted: Sequence) -> None:
    """Raises ValueError unless there is an answer for each right one, and at least one."""
    if len(given) != len(wanted) or not wanted:
        raise ValueError(
            f"expected as many answers as right ones, and at least one, got {len(given)} and {len(wanted)}"
        )


def exact_match(given: Sequence, wanted: Sequence) -> float:
    """The share of answers that are exactly right. Raises ValueError for lists that are empty or unequal."""
    check_answers(given, wanted)
    return sum(one == other for one, other in zip(given, wanted, strict=True)) / len(wanted)
