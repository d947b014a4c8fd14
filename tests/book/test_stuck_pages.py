"""A page whose kernel dies, and one with a cell that hangs: the build of the book fails in minutes and names them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n"
PAGES = {
    "works": "print(6 * 7)",
    "dies": "import os\nos._exit(3)",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "hangs": "import time\ntime.sleep(3600)",
    "hangs_in_c": "import itertools\nsum(itertools.repeat(1))",
}


@pytest.fixture(scope="module")
def build_pages(tmp_path_factory):
    """A function that builds a small book of some pages, with this book's settings and a shorter time for a cell."""
    pytest.importorskip("jupyter_book", reason="the book extra is not installed")

    def build(*names):
        folder = tmp_path_factory.mktemp("book")
        for name in ("tools", "book/_ext", "book/_static"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "book" / "references.bib", folder / "book")
        config, count = re.subn(r"\n  timeout: \d+", "\n  timeout: 10", (ROOT / "_config.yml").read_text())
        assert count == 1
        (folder / "_config.yml").write_text(config)
        chapters = "".join(f"  - file: book/{name}\n" for name in names)
        (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/works\nchapters:\n{chapters}")
        for name in ("works", *names):
            page = f"{HEADER}# The page that {name}\n\n```{{code-cell}} ipython3\n{PAGES[name]}\n```\n"
            (folder / "book" / f"{name}.md").write_text(page)
        done = subprocess.run(
            [sys.executable, "tools/build_book.py"],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400,
        )  # fmt: skip
        printed = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        assert done.returncode != 0
        assert "The book was not built" in printed
        assert not re.search(r"book/works\.md: (WARNING|ERROR)", printed)
        return printed

    return build


def test_the_limit_is_minutes():
    assert int(re.search(r"\n  timeout: (\d+)", (ROOT / "_config.yml").read_text())[1]) <= 300


def test_cells_that_hang(build_pages):
    printed = build_pages("hangs", "hangs_in_c")
    for name in ("hangs", "hangs_in_c"):
        assert re.search(rf"book/{name}\.md: WARNING: Executing notebook failed: CellTimeoutError", printed), printed


@pytest.mark.parametrize("name", ["dies", "crashes"])
def test_kernels_that_die(build_pages, name):
    printed = build_pages(name)
    assert re.search(rf"book/{name}\.md: ERROR: the build stops at this page: Kernel died", printed), printed
