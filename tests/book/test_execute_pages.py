"""What is in the cache before Jupyter Book starts: laboratories as they were saved, and pages that executed."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the book extra is not installed")
pytest.importorskip("jupyter_cache", reason="the book extra is not installed")

FILE = Path(__file__).resolve().parents[2] / "tools" / "execute_pages.py"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
HEADER = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n  display_name: Python 3\n---\n\n"


@pytest.fixture
def tool(monkeypatch):
    """The module, which other processes find by its name too."""
    monkeypatch.syspath_prepend(str(FILE.parent))
    spec = importlib.util.spec_from_file_location("execute_pages", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "execute_pages", module)
    spec.loader.exec_module(module)
    return module


def laboratory(path, output):
    """A notebook that was saved with another output than its cell prints."""
    cell = nbformat.v4.new_code_cell("print(6 * 7)", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=KERNEL), path)


def test_the_cache_holds_what_executes_and_what_was_saved(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "FEW", 1)
    (tmp_path / "_config.yml").write_text("execute:\n  timeout: 60\n")
    (tmp_path / "_toc.yml").write_text("root: text\nchapters:\n  - file: works\n  - file: fails\n  - file: saved\n")
    (tmp_path / "text.md").write_text("# A page without cells\n")
    for name, code in (("works", "print(2 * 3)"), ("fails", "print(1 / 0)")):
        (tmp_path / f"{name}.md").write_text(f"{HEADER}# {name}\n\n```{{code-cell}} ipython3\n{code}\n```\n")
    laboratory(tmp_path / "saved.ipynb", "as saved\n")
    tool.fill(tmp_path / "cache", tmp_path, stored=True)
    cache = tool.get_cache(str(tmp_path / "cache"))
    found = {path.stem: notebook for path, notebook in tool.notebooks(tmp_path)}
    assert {name: tool.is_cached(cache, notebook) for name, notebook in found.items()} == {
        "works": True, "fails": False, "saved": True,
    }  # fmt: skip

    def printed(name):
        _, notebook = cache.merge_match_into_notebook(found[name])
        return notebook.cells[-1].outputs[0].text

    assert (printed("works"), printed("saved")) == ("6\n", "as saved\n")
    found["saved"].cells[0].execution_count = None
    assert not tool.is_executed(found["saved"])


def test_a_page_whose_kernel_dies_is_left_to_the_build(tool, tmp_path):
    code = nbformat.v4.new_code_cell("import os\nos._exit(3)")
    notebook = nbformat.v4.new_notebook(cells=[code], metadata=KERNEL)
    assert tool.execute(tmp_path / "page.md", notebook, 60) is None


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")
def test_a_kernel_ends_with_the_build_that_was_killed(tmp_path):
    code = f"""
import multiprocessing, pathlib, sys
sys.path.insert(0, {str(FILE.parent)!r})
import nbformat, execute_pages
multiprocessing.set_forkserver_preload([])
cell = nbformat.v4.new_code_cell("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)")
notebook = nbformat.v4.new_notebook(cells=[cell], metadata={KERNEL!r})
execute_pages.execute(pathlib.Path({str(tmp_path)!r}, "page.md"), notebook, 600)
"""
    build = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = tmp_path / "pid"
    try:
        wait_until(lambda: file.exists() and file.read_text())
    finally:
        build.kill()
        build.wait()
    kernel = Path("/proc", file.read_text())
    wait_until(lambda: not kernel.exists())


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited for {seconds} seconds"
        time.sleep(0.1)
