"""The built book, for the tests of this folder."""

import faulthandler
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book.chromium import PHONE, serving

ROOT = Path(__file__).resolve().parents[2]
BUILD_SECONDS = 2400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that wants the book waits for its build, in which each cell has a time of its own.

    `pytest -m "not built" tests/book` runs the tests that read the sources alone.
    """
    for item in items:
        if "build" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.built)
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS + 60))


@pytest.fixture(scope="session")
def build() -> subprocess.CompletedProcess:
    """The build of the HTML, which does nothing where the HTML is not older than its sources.

    Two test workers may ask at once; build_book.py holds a lock, and the second finds the HTML current.
    """
    pytest.importorskip("jupyter_book", reason="the book extra is not installed")
    faulthandler.cancel_dump_traceback_later()  # the limit of pyproject.toml is for tests, not for a build
    # The workers compute with one thread each; a page measures with the threads that a reader has. Here they share the
    # cores with the other worker, so a thread that waits for another one must not spin: four seconds became minutes.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    environment["OMP_WAIT_POLICY"] = "passive"
    return subprocess.run(
        [sys.executable, "tools/build_book.py", "--if-stale"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )


@pytest.fixture(scope="session")
def html_folder(build) -> Path:
    """The folder of the built HTML."""
    if build.returncode:
        pytest.fail("there is no HTML to read; test_the_book_builds says why", pytrace=False)
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def phone(browser) -> Iterator:
    """Pages of this context have the size of a phone."""
    context = browser.new_context(viewport=PHONE)
    yield context
    context.close()


@pytest.fixture(scope="module")
def site(html_folder) -> Iterator[str]:
    """The address of the built book on a loopback server."""
    with serving(html_folder) as address:
        yield address
