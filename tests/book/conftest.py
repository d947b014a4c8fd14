"""The built book, for the tests of this folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.chromium import CHROMIUM, FLAGS, serving

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build() -> subprocess.CompletedProcess:
    """The build of the HTML, which does nothing where the HTML is not older than its sources.

    Two test workers may ask at once; build_book.py holds a lock, and the second finds the HTML current.
    """
    pytest.importorskip("jupyter_book", reason="the book extra is not installed")
    # The workers compute with one thread each; a page measures with the threads that a reader has.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    return subprocess.run(
        [sys.executable, "tools/build_book.py", "--if-stale"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def html_folder(build) -> Path:
    """The folder of the built HTML."""
    if build.returncode:
        pytest.fail("there is no HTML to read; test_the_book_builds says why", pytrace=False)
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser of playwright with an empty profile."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(html_folder) -> Iterator[str]:
    """The address of the built book on a loopback server."""
    with serving(html_folder) as address:
        yield address
