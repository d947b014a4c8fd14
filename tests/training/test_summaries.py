"""The run of the small summariser: copies first, then summaries, and a folder that both frameworks read."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load
from tfguide.tasks import summarisation
from tfguide.text import read_tokenizer
from tfguide.training import NO_LABEL, Recipe, summaries

RECIPE = Recipe(steps=10, warmup=1, rows=4, length=summarisation.SOURCE_TOKENS, measure_every=5)
PAIRS = [([5 + i, 9, 7, 8, 6 + i, 11], [0, 3, 4 + i, 0]) for i in range(12)]


def test_copies_come_first():
    batches = summaries.CopyThenSummarise(PAIRS, RECIPE, end=0)
    assert batches.copies == int(summaries.COPIES * 10) > 0
    for step in range(10):
        batch = batches(step)
        source = np.where(batch.inputs["source_valid"], batch.inputs["source"], NO_LABEL)
        labels = np.where(batch.labels == 0, NO_LABEL, batch.labels)  # without the end
        width = min(source.shape[1], labels.shape[1])
        assert (source[:, :width] == labels[:, :width]).all() == (step < batches.copies)
        assert (batch.inputs["target"][:, 0] == 0).all()
        np.testing.assert_array_equal(batches(step).labels, batch.labels)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_run_on_texts_of_your_own(name, tmp_path):
    load(name)
    pytest.importorskip("tokenizers")
    pytest.importorskip("rouge_score", reason="the tasks extra is not installed")
    file = tmp_path / "texts.tsv"
    lines = [f"Read the part {i}.\tThe part {i} of the file is read, and then it is closed again." for i in range(30)]
    file.write_text("\n".join(lines), encoding="utf-8")
    records = list(summaries.train_summariser(name, tmp_path / "model", RECIPE, file, command="a command"))
    assert len(records) == 10 and records[-1].score is not None
    tokenizer = read_tokenizer(tmp_path / "model")
    model = load(name).load_checkpoint(tmp_path / "model")
    assert model.config == summarisation.model_config(tokenizer.get_vocab_size())
    curve = json.loads((tmp_path / "model" / "curve.json").read_text())
    assert curve["command"] == "a command" and len(curve["loss"]) == 10 and curve["measured"] > 0
