"""What holds for every test, the notebooks included."""

import os

import pytest

# Before any test imports a framework. Make sets the same, so this serves a bare `pytest`.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from tfguide.triton import load_triton

load_triton()  # a test may import TensorFlow first, and transformers, which compiles, before the package


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With TFGUIDE_NO_SKIPS=1 a skipped test is a failure: the workflow has everything that a test may ask for."""
    if os.environ.get("TFGUIDE_NO_SKIPS") != "1" or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped:
        reporter.write_line("")
        reporter.write_line(f"TFGUIDE_NO_SKIPS=1, and {len(skipped)} skipped: that is a failure here.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
