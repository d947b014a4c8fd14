"""The API pages show every public name once, in the table and below it; both frameworks have the same page."""

import importlib
import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "book" / "appendices"


def listed(page):
    """The names in the tables of a page, and those it describes, each in order."""
    text = (PAGES / page).read_text()
    tables = re.findall(r"\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)", text)
    described = re.findall(r"\.\. (?:autofunction|autoclass|py:data):: (?:tfguide\.)?(\w+)", text)
    return [name for table in tables for name in table.split()], described


@pytest.mark.parametrize("package", ["reference", "torch", "tensorflow"])
def test_page_of_an_implementation_has_every_public_name(package):
    if package != "reference":
        pytest.importorskip(package)
    public = set(importlib.import_module(f"tfguide.{package}").__all__)
    table, described = listed(f"api_{package}.md")
    assert table == described
    assert len(table) == len(set(table))
    assert set(table) == public


def test_frameworks_have_the_same_page():
    assert listed("api_torch.md") == listed("api_tensorflow.md")


def test_page_of_the_package_has_every_public_name():
    import tfguide

    _, described = listed("api.md")
    assert set(described) == {name for name in tfguide.__all__ if not name.startswith("_")}


def test_page_of_the_cost_model_has_every_public_name():
    from tfguide import cost

    table, described = listed("api_cost.md")
    assert table == described[: len(table)]
    assert set(table) == set(cost.__all__) - {"BYTES", "CHIPS", "LAYOUTS"}  # tables, named below


@pytest.mark.parametrize("package", ["checkpoints", "inference", "compress"])
def test_shared_page_has_every_public_name(package):
    table, described = listed("api_shared.md")
    public = importlib.import_module(f"tfguide.{package}").__all__
    assert table == described
    elsewhere = {"PromptLookup", "Sampling", "ACTIVATION_BLOCK"}  # on the page of the package, or a number
    assert set(public) - elsewhere <= set(described)
