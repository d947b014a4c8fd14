"""Collect the largest differences and write the table that the book shows."""

import json
import os
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "book" / "appendices" / "conformance.json"


@pytest.fixture(scope="module")
def table():
    """A list of rows; a run over every case writes it to the book where TFGUIDE_WRITE_CONFORMANCE is set."""
    rows = []
    yield rows
    if os.environ.get("TFGUIDE_WRITE_CONFORMANCE") and rows:
        rows.sort(key=lambda row: [str(value) for value in row.values()])
        TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
