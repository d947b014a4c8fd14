"""A dead kernel, a cell that hangs and a test that hangs are failures, by name, and what follows is still run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

# Where CI is set, pytest repeats each failure in its summary, and a message is there twice.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}

FOREVER = "import time; time.sleep(3600)"
FOREVER_IN_C = "import itertools; sum(itertools.repeat(1))"  # never looks for a signal


def run(folder, *options):
    """Run pytest as `make test` does, with this repository's settings, on the tests and notebooks of a folder."""
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}",
            "-p", "conftest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-n", "2", "--dist", "loadfile",
            "--color=no", "--nbval", *options, str(folder),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env=ENVIRONMENT,
    )  # fmt: skip


def write_notebook(path, *sources, output="1\n"):
    """A notebook of some cells, stored as executed; the last one prints its `output`."""
    cells = [nbformat.v4.new_code_cell(source, execution_count=i) for i, source in enumerate(sources, 1)]
    cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def test_the_limits_are_minutes(pytestconfig):
    assert pytestconfig.getoption("nbval_cell_timeout") <= 300
    assert float(pytestconfig.getini("timeout")) <= 600
    assert float(pytestconfig.getini("faulthandler_timeout")) <= 660
    assert pytestconfig.getini("faulthandler_exit_on_timeout")


LOG = "import os, sys; os.write(2, b'I0000 from C'); print('from Python', file=sys.stderr); print(1)"


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """What pytest prints about notebooks that die, hang, differ and work."""
    folder = tmp_path_factory.mktemp("notebooks")
    write_notebook(folder / "exits.ipynb", "import os", "os._exit(3)", "print(1)")
    write_notebook(folder / "crashes.ipynb", "import ctypes", "ctypes.string_at(0)", "print(1)")
    write_notebook(folder / "hangs.ipynb", "x = 1", FOREVER, "print(1)")
    write_notebook(folder / "hangs_in_c.ipynb", "x = 1", FOREVER_IN_C, "print(1)")
    write_notebook(
        folder / "later.ipynb", "import os, threading", "threading.Timer(1, os._exit, (3,)).start()", FOREVER
    )
    write_notebook(folder / "logs.ipynb", LOG)
    write_notebook(folder / "differs.ipynb", LOG, output="2\n")
    write_notebook(folder / "works.ipynb", "x = 1", "print(x)")
    return run(folder, "--nbval-cell-timeout=10").stdout


def says(printed, message, cell, source):
    """Whether the failure of a cell with this number and this source begins with a message."""
    return re.search(rf"^Cell {cell}: {re.escape(message)}.*\n\nInput:\n{re.escape(source)}\n", printed, re.MULTILINE)


def test_kernels_that_die_and_cells_that_hang(notebooks):
    failed = re.findall(r"^FAILED \S*?(\w+).ipynb::Cell (\d)", notebooks, re.MULTILINE)
    failed = [(name, cell) for name, cell in failed if name not in ("later", "differs")]
    assert sorted(failed) == [("crashes", "1"), ("exits", "1"), ("hangs", "1"), ("hangs_in_c", "1")], notebooks
    assert says(notebooks, "The kernel died: exit status 3.", 1, "os._exit(3)")
    assert says(notebooks, "The kernel died: SIGSEGV.", 1, "ctypes.string_at(0)")
    for source in (FOREVER, FOREVER_IN_C):
        assert says(notebooks, "Timeout of 10 seconds exceeded", 1, source)
    assert len(re.findall("Timeout of 10 seconds exceeded", notebooks)) == 2
    assert "6 failed" in notebooks  # those of the next two tests as well


def test_a_kernel_that_dies_later_is_found_as_well(notebooks):
    assert "later.ipynb::Cell 2" in notebooks
    assert says(notebooks, "The kernel died: exit status 3.", 2, FOREVER)


def test_stderr_is_not_compared_and_stdout_is(notebooks):
    failed = re.findall(r"^FAILED \S*?(\w+).ipynb", notebooks, re.MULTILINE)
    assert "differs" in failed and not {"logs", "works"} & set(failed), notebooks
    assert says(notebooks, "Cell outputs differ", 0, LOG)


def test_tests_that_hang(tmp_path):
    for name, stuck in (("python", FOREVER), ("c", FOREVER_IN_C)):
        (tmp_path / f"test_{name}.py").write_text(
            f"def test_before(): pass\ndef test_stuck(): {stuck}\ndef test_after(): pass\n"
        )
    done = run(tmp_path, "--timeout=5", "-o", "faulthandler_timeout=10")
    assert done.returncode == 1
    failed = re.findall(r"^FAILED \S*test_(\w+)\.py::(\w+)", done.stdout, re.MULTILINE)
    assert sorted(failed) == [("c", "test_stuck"), ("python", "test_stuck")], done.stdout + done.stderr
    assert re.search(r"from pytest-timeout\.\s+\S*test_python\.py:2: Failed", done.stdout), done.stdout
    assert re.search(r"crashed while running '\S*test_c\.py::test_stuck'", done.stdout), done.stdout
    assert "2 failed, 4 passed" in done.stdout


def test_a_test_that_hangs_in_c_is_named_without_workers(tmp_path):
    (tmp_path / "test_it.py").write_text(f"def test_stuck(): {FOREVER_IN_C}\n")
    done = run(tmp_path, "-n", "0", "--timeout=5", "-o", "faulthandler_timeout=10")
    assert done.returncode == 1
    assert "in test_stuck" in done.stderr
