"""The surroundings of every test: TensorFlow quiet, Keras on TensorFlow, and no network."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from tests.book.chromium import CHROMIUM, FLAGS
from tests.support import FRAMEWORKS, load


def pytest_collection_modifyitems(config, items):
    """Leave out the tests that drive llama.cpp where it is not installed: it compiles for minutes, so no extra of the
    tests has it. pytest counts them as deselected."""
    marked = [item for item in items if item.get_closest_marker("llama_cpp")]
    if marked:
        from tfguide.bench.llama import has_llama_cpp

        if not has_llama_cpp():
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]


@pytest.fixture
def small_limits(monkeypatch):
    """Benchmarks that measure the memory with a small buffer and do not measure products."""
    from tfguide import native
    from tfguide.bench import limits

    monkeypatch.setattr(limits, "memory_reader", lambda: native.MemoryReader(1 << 22))
    monkeypatch.setattr(limits, "matrix_flops", lambda dtype: 1e11)


@pytest.fixture
def peer(monkeypatch):
    """llama.cpp's calls, computed by the reference."""
    monkeypatch.setenv("TFGUIDE_LLAMA_CPP", str(Path(__file__).parent / "llama_of_python"))
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    yield
    sys.modules.pop("llama_cpp", None)


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    """The name of each framework in turn."""
    return request.param


@pytest.fixture
def tg(framework):
    """The package's implementation in each framework in turn."""
    return load(framework)


@pytest.fixture(scope="module")
def browser():
    """A browser of playwright with an empty profile."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def table(request):
    """A list of rows for the tests of a module, which names a file of the book as its TABLE.

    A run over all of the module writes them there where TFGUIDE_WRITE_CONFORMANCE is set.
    """
    rows = []
    yield rows
    if os.environ.get("TFGUIDE_WRITE_CONFORMANCE") and rows:
        request.module.TABLE.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


@pytest.fixture
def traced(monkeypatch):
    """PyTorch compiles what it traces with a function that counts and compiles nothing: seconds instead of minutes."""
    import torch._dynamo

    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch._dynamo, "lookup_backend", lambda name: keep)
    return graphs
