"""`pytest --quick`, which `make test` runs: every test function and every notebook that is not slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.slow
def test_slow():
    pass

def test_one():
    pass

@pytest.mark.parametrize("n", [1, 2, 3])
def test_few(n):
    pass

@pytest.mark.parametrize("n", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_few_and_slow(n):
    pass

@pytest.mark.parametrize("n", range(11))
def test_many(n):
    pass

@pytest.mark.parametrize("name", ["torch", "tensorflow"])
@pytest.mark.parametrize("n", range(11))
class TestBoth:
    def test_both(self, n, name):
        pass
"""
QUICK = """
test_one test_few[1] test_few[2] test_few[3] test_few_and_slow[1] test_few_and_slow[2]
test_many[0] test_many[3] test_many[6] test_many[10]
test_both[0-torch] test_both[10-torch] test_both[0-tensorflow] test_both[10-tensorflow]
"""


def notebook(*tags):
    """A notebook of as many cells as there are lists of tags."""
    code = {"cell_type": "code", "execution_count": None, "outputs": [], "source": "1"}
    cells = [code | {"id": f"cell{i}", "metadata": {"tags": some}} for i, some in enumerate(tags)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def collected(tmp_path):
    """A function of pytest's options: the names of the tests that it would run in a folder with this `conftest`."""
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "long.ipynb").write_text(json.dumps(notebook(["hide-input", "slow"], [])))
    (tmp_path / "short.ipynb").write_text(json.dumps(notebook(["hide-input"], [], [])))

    def run(*options):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
        return [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]

    return run


def test_of_many_cases_some_are_chosen_and_of_slow_ones_none(collected):
    assert sorted(collected("--quick")) == sorted(QUICK.split())


def test_without_it_all_are_run(collected):
    assert len(collected()) == 1 + 1 + 3 + 3 + 11 + 22


def test_a_notebook_with_a_slow_cell_is_left_out_as_a_whole(collected):
    def cells(*options):
        return [name for name in collected("--nbval", *options) if name.startswith("Cell")]

    assert cells() == ["Cell 0", "Cell 1", "Cell 0", "Cell 1", "Cell 2"]
    assert cells("--quick") == ["Cell 0", "Cell 1", "Cell 2"]
