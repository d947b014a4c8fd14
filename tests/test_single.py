"""Run tests/single with each framework hidden in turn, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import FRAMEWORKS


@pytest.mark.parametrize("only", FRAMEWORKS)
def test_with_one_framework(only):
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "tests/single"],
        cwd=root,
        env={**os.environ, "TFGUIDE_ONLY": only, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
