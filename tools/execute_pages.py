"""Fill the cache of Jupyter Book: laboratories with their stored outputs, pages by executing two at a time.

Jupyter Book executes one page after another. Most of a page's time one core imports frameworks, so the other waits.
"""

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import single_nb_execution
from jupyter_client.manager import AsyncKernelManager
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from warm_kernels import WarmKernelManager

AT_ONCE = 2  # pages: each holds two frameworks in memory, and some a model
FEW = 3  # as many pages are left to Jupyter Book, which says what failed


def fill(cache_folder: Path, root: Path, stored: bool) -> None:
    """Put into the cache what the book of the folder `root` shows, as far as it executes without an error.

    A page that fails stays out of the cache, so Jupyter Book executes it again and reports it.
    stored: take the outputs that a laboratory was saved with (default of `make book`); else execute it.
    """
    cache = get_cache(str(cache_folder))
    todo = []
    for path, notebook in notebooks(root):
        if stored and path.suffix == ".ipynb" and is_executed(notebook):
            keep(cache, path, notebook, {})
        elif not is_cached(cache, notebook):
            todo.append((path, notebook))
    if len(todo) <= FEW:
        return
    print(f"{len(todo)} pages are executed, {AT_ONCE} at a time", flush=True)
    todo.sort(key=lambda item: -sum(cell.cell_type == "code" for cell in item[1].cells))  # the longest ones first
    seconds = yaml.safe_load((root / "_config.yml").read_text())["execute"]["timeout"]
    paths, found = zip(*todo, strict=True)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for path, result in zip(paths, threads.map(execute, paths, found, [seconds] * len(todo)), strict=True):
            if result is not None:
                keep(cache, path, *result)


def notebooks(root: Path) -> Iterator[tuple[Path, nbformat.NotebookNode]]:
    """Each file of the table of contents that has cells, as Jupyter Book reads it."""
    for name in re.findall(r"^\s*(?:- )?(?:root|file):\s*(\S+)", (root / "_toc.yml").read_text(), flags=re.MULTILINE):
        page, laboratory = root / f"{name}.md", root / f"{name}.ipynb"
        if laboratory.exists():
            yield laboratory, nbformat.read(laboratory, as_version=4)
        elif page.exists() and is_myst_markdown_notebook(text := page.read_text(encoding="utf-8")):
            yield page, read_myst_markdown_notebook(text, path=str(page))


def is_executed(notebook: nbformat.NotebookNode) -> bool:
    """Whether every cell of code was executed before the notebook was saved."""
    return all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip())


def is_cached(cache: JupyterCacheAbstract, notebook: nbformat.NotebookNode) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def keep(cache: JupyterCacheAbstract, path: Path, notebook: nbformat.NotebookNode, data: dict) -> None:
    cache.cache_notebook_bundle(CacheBundleIn(notebook, str(path), data=data), check_validity=False, overwrite=True)


def execute(path: Path, notebook: nbformat.NotebookNode, seconds: int) -> tuple[nbformat.NotebookNode, dict] | None:
    """The executed notebook and what it took; None where a cell failed or its kernel died."""
    try:
        result = single_nb_execution(
            notebook,
            cwd=str(path.parent),
            timeout=seconds,
            allow_errors=False,
            kernel_manager_class=WarmKernelManager if sys.platform == "linux" else AsyncKernelManager,
        )
    except RuntimeError:  # nbclient's DeadKernelError
        return None
    return None if result.err else (result.nb, {"execution_seconds": result.time})
