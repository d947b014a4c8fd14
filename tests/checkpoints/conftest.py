"""Folders that transformers wrote."""

import pytest

try:
    from tests.checkpoints import hf
except ModuleNotFoundError:  # the test files say so, each, with importorskip
    hf = None


@pytest.fixture(scope="session", params=hf.CASES if hf else [])
def case(request, tmp_path_factory):
    """Every model of `hf.CASES` in turn: its name, the model, and the folder it was saved to, to be read only."""
    model = hf.make(request.param)
    return request.param, model, hf.save(model, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def saved(tmp_path):
    """A function that saves a fresh model of a case for a test to spoil."""

    def save(case, **options):
        return hf.save(hf.make(case), tmp_path / case, **options)

    return save
