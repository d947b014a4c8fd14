"""Folders that transformers wrote."""

import pytest

pytest.importorskip("transformers")
pytest.importorskip("torch")

from tests.checkpoints import hf  # noqa: E402  (after the checks for what it imports)


@pytest.fixture(scope="session", params=hf.CASES)
def case(request, tmp_path_factory):
    """Every model of `hf.CASES` in turn: its name, the model, and the folder it was saved to; read only."""
    model = hf.make(request.param)
    return request.param, model, hf.save(model, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def saved(tmp_path):
    """A function that saves a fresh model of a case for a test to spoil."""

    def save(case, **options):
        return hf.save(hf.make(case), tmp_path / case, **options)

    return save
