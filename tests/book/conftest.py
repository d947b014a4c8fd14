"""The built book, for the tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def html_folder() -> Path:
    """The folder of the built HTML, built first where it is missing or older than its sources.

    Two test workers may ask at once; build_book.py holds a lock, and the second finds the HTML current.
    """
    pytest.importorskip("jupyter_book", reason="the book extra is not installed")
    # The workers compute with one thread each; a page measures with the threads that a reader has.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    built = subprocess.run(
        [sys.executable, "tools/build_book.py", "--if-stale"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.fail(f"the book does not build:\n{built.stdout[-4000:]}\n{built.stderr[-4000:]}", pytrace=False)
    return ROOT / "_build" / "html"
