"""Spot the bug: each broken version fails the test that the page shows, and each corrected one passes it."""

import difflib
import importlib
import inspect
import sys
from pathlib import Path

import pytest

pytest.importorskip("IPython")

from tests.support import FRAMEWORKS, load, random_weights, small_config

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book/examples"))

from bugs import checks, report

BOOK = Path(__file__).resolve().parents[2] / "book"

TENSORS = ("step", "embed", "attend", "prefill", "attend_in_half")
OTHERS = ("accept", "draw")
PAGE = (BOOK / "spot_the_bug.md").read_text()


def versions(suffix=""):
    return [importlib.import_module(f"bugs.{kind}{suffix}") for kind in ("broken", "fixed")]


def hold(name, pair, *arguments):
    broken, fixed = pair
    check = getattr(checks, f"check_{name}")
    with pytest.raises(AssertionError, match=r"different in rows .* by up to"):
        check(broken, *arguments)
    check(fixed, *arguments)
    said = report.folded(check, {"": pair}, *arguments).data
    assert "  broken: FAILS,\n    different in rows" in said and "  corrected: passes\n" in said
    assert said.count("\n- ") in (1, 2) and said.count("\n+ ") in (1, 2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_functions_with_tensors(framework):
    load(framework)  # before the framework itself
    for name in TENSORS:
        hold(name, versions(f"_{framework}"))


def test_functions_without():
    for name in OTHERS:
        hold(name, versions())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cache_of_two_requests(framework):
    config = small_config(n_kv_heads=2, positions="rotary", norm="rms", max_positions=None)
    guide = load(framework)
    model = guide.from_weights(config, random_weights(config))
    for each in (model, guide.accelerate(model)):
        hold("answer", versions(), each)


@pytest.mark.parametrize("suffix", ["", "_torch", "_tensorflow"])
def test_versions_differ_in_a_line_or_two(suffix):
    """And in nothing else: neither in what they promise nor in another function."""
    broken, fixed = versions(suffix)
    names = [name for name, value in vars(fixed).items() if inspect.isfunction(value) and name in vars(broken)]
    changed = []
    for name in names:
        old, new = getattr(broken, name), getattr(fixed, name)
        assert inspect.signature(old) == inspect.signature(new) and old.__doc__ == new.__doc__
        lines = list(difflib.ndiff(*(inspect.getsource(each).splitlines() for each in (old, new))))
        counts = [sum(line[0] == sign for line in lines) for sign in "-+"]
        if counts != [0, 0]:
            changed.append(name)
            assert max(counts) <= 2, (name, counts)
    assert changed == (list(TENSORS) if suffix else [*OTHERS, "answer"])


def test_the_page_shows_every_version_and_its_test():
    for name in (*TENSORS, *OTHERS, "answer"):
        assert f":pyobject: check_{name}\n" in PAGE, name
        files = ["broken_torch", "broken_tensorflow"] if name in TENSORS else ["broken"]
        for file in files:
            assert f"{{literalinclude}} examples/bugs/{file}.py\n:pyobject: {name}\n" in PAGE, (name, file)
