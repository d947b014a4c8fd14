"""Processes that the tests of this folder share: each set of them does many checks."""

import json
import sys

import pytest

import tfguide.torch as framework
from tests.parallel.shared import WIDE
from tests.support import random_weights
from tfguide.sharding.launch import launch


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One model in several kinds of file."""
    folder = tmp_path_factory.mktemp("shared")
    model = framework.from_weights(WIDE, random_weights(WIDE))
    framework.save_checkpoint(model, folder / "plain")
    framework.save_checkpoint(framework.quantize(model, 4), folder / "quantised")
    for block_type in ("Q8_0", "Q4_1"):
        framework.save_gguf(model, folder / f"{block_type}.gguf", block_type)
    return folder


@pytest.fixture(scope="session")
def found(folder):
    """A function: what n processes found in a check, which they do once."""
    results = {}

    def find(check, n):
        if (check, n) not in results:
            results[check, n] = None  # what fails once is not tried for each test
            assert launch(n, [sys.executable, "-m", "tests.parallel.shared", check, str(folder)]) == 0
            results[check, n] = json.loads((folder / f"{check}-{n}.json").read_text())
        assert results[check, n] is not None, "the processes have failed before"
        return results[check, n]

    return find
