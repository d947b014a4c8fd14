"""Build the book: execute what has changed, write the HTML to _build/html, print the file to open.

    python tools/build_book.py              what `make book` runs
    python tools/build_book.py --if-stale   the same, but return at once where the HTML is current (the tests do this)
    python tools/build_book.py --fresh      execute the laboratories too, and every page (`make book FRESH=1`)

Jupyter Book caches the execution of a page by the code in the page. It does not know that the page imports `tfguide`,
so the cache is dropped here whenever a source of the package or a pinned version has changed. A laboratory is shown
with the outputs that it was saved with, which the tests compare with those of an execution.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from execute_pages import fill
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML, CACHE = BUILD / "html", BUILD / ".jupyter_cache"
START = HTML / "index.html"
COMMAND = [str(Path(sysconfig.get_path("scripts")) / "jupyter-book"), "build", ".", "-n", "-W", "--keep-going"]

# Three sets of inputs, because three things become stale at different times.
EXECUTION = (
    "tfguide/**/*.py", "constraints.txt", "pyproject.toml", "CITATION.cff", "book/appendices/**/*.json",
    "book/appendices/*.toml",
)  # fmt: skip
SHELL = ("_config.yml", "_toc.yml", "book/_ext/**/*", "book/_static/**/*", "book/references.bib")
PAGES = ("book/**/*", "notebooks/**/*", "CHANGELOG.md", ".ci/run")


def digest(patterns: Iterable[str]) -> str:
    """One hash over the names and the contents of the files that match."""
    files = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    hashed = hashlib.sha256()
    for path in sorted(files):
        name = path.relative_to(ROOT).as_posix()
        if "__pycache__" in name or ".ipynb_checkpoints" in name:
            continue
        hashed.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return hashed.hexdigest()


def recorded(name: str) -> str:
    """The hash that an earlier build left under this name, empty where there is none."""
    path = BUILD / f"{name}.sha256"
    return path.read_text() if path.exists() else ""


def record(name: str, value: str) -> None:
    (BUILD / f"{name}.sha256").write_text(value)


def drop_what_is_stale(html: str) -> None:
    """Remove the execution cache when the package has changed, and the HTML when the frame around the pages has.

    html: the hash of all that the HTML is made of.
    """
    execution, shell = digest(EXECUTION), digest(SHELL)
    if recorded("execution") != execution:
        print("tfguide or its pins have changed: every page is executed again", flush=True)
        shutil.rmtree(CACHE, ignore_errors=True)
    if recorded("html") != html:
        # A page that Sphinx does not read again is not executed again, does not repeat its warnings, and loses its
        # entries in the index, and the search with them.
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    if recorded("execution") != execution or recorded("shell") != shell:
        shutil.rmtree(HTML, ignore_errors=True)  # a page that left the book must leave the HTML
    record("execution", execution)
    record("shell", shell)


def build(fresh: bool) -> int:
    """Run Jupyter Book and return its exit status. fresh: execute everything, the laboratories too."""
    html = digest(EXECUTION + SHELL + PAGES)
    drop_what_is_stale(html)
    if fresh:
        shutil.rmtree(CACHE, ignore_errors=True)
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    # Pages that share the cores must not spin while they wait for their threads.
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "OMP_WAIT_POLICY": "passive"}
    fill(CACHE, ROOT, stored=not fresh)
    status = subprocess.run(COMMAND, cwd=ROOT, check=False).returncode
    if status:
        (BUILD / "html.sha256").unlink(missing_ok=True)  # so that the next build reads every page
        for report in sorted(HTML.glob("reports/**/*.log")):
            print(f"\n--- {report.relative_to(ROOT)}\n{report.read_text()}", file=sys.stderr)
        print("The book was not built; the warnings above say why.", file=sys.stderr)
        return status
    record("html", html)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--if-stale", action="store_true", help="return at once where the HTML is current")
    parser.add_argument("--fresh", action="store_true", help="execute the laboratories too, and every page")
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    with FileLock(BUILD / "book.lock"):
        current = START.exists() and recorded("html") == digest(EXECUTION + SHELL + PAGES)
        status = 0 if arguments.if_stale and current else build(arguments.fresh)
    if status == 0:
        print(f"\nThe book is built. Open {START}")
    return status


if __name__ == "__main__":
    sys.exit(main())
