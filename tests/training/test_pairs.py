"""Batches of pairs: what a row holds, the order of the pairs, and a run that is interrupted."""

import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, refuses
from tfguide.config import ModelConfig
from tfguide.training import FILE, NO_LABEL, PairBatches, Recipe, pair_batch, train_pairs

DRAWS = np.random.default_rng(0)
LENGTHS = DRAWS.integers(1, 12, 53).tolist()
PAIRS = [([3 + i % 13] * n + [2], [1, *[3 + i % 13] * n, 2]) for i, n in enumerate(LENGTHS)]
CONFIG = ModelConfig(
    kind="encoder-decoder", d_model=12, n_layers=1, n_heads=3, d_ff=20, vocab_size=17, norm="rms", norm_eps=1e-6,
    positions="relative", activation="relu", qkv_bias=False, output_bias=False, ffn_bias=False, tied_head=False,
    attention_scale=1.0, pad_token_id=0, eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip
RECIPE = Recipe(steps=6, warmup=1, rows=5, length=16, learning_rate=0.02, measure_every=2)


def test_each_token_predicts_the_next_and_padding_counts_for_nothing():
    batch = pair_batch([([5, 6, 2], [1, 7, 2]), ([5, 2], [1, 7, 8, 9, 2])], multiple=4)
    assert batch.inputs["source"].tolist() == [[5, 6, 2, 0], [5, 2, 0, 0]]
    assert batch.inputs["source_valid"].tolist() == [[True, True, True, False], [True, True, False, False]]
    assert batch.inputs["target"].tolist() == [[1, 7, 0, 0], [1, 7, 8, 9]]
    assert batch.labels.tolist() == [[7, 2, NO_LABEL, NO_LABEL], [7, 8, 9, 2]]
    assert pair_batch([([5], [1, 2])], padding=16, multiple=8).inputs["source"].tolist() == [[5, *[16] * 7]]


def test_a_pass_takes_each_pair_once_and_batches_have_like_lengths():
    batches = PairBatches(PAIRS, RECIPE)
    in_a_pass = 53 // 5
    seen = [row for step in range(in_a_pass) for row in texts(batches(step))]
    known = [source for source, _ in PAIRS]
    assert len(seen) == 50 and all(seen.count(row) <= known.count(row) for row in seen)
    assert [texts(batches(step)) for step in range(4)] == [texts(PairBatches(PAIRS, RECIPE)(step)) for step in range(4)]
    assert texts(batches(in_a_pass)) != texts(batches(0))  # the next pass has another order
    spreads = [np.ptp([len(row) for row in texts(batches(step))]) for step in range(in_a_pass)]
    assert np.mean(spreads) <= 3 < np.ptp(LENGTHS)
    mixed = PairBatches(PAIRS, RECIPE, sorted_batches=1)
    assert np.mean([np.ptp([len(row) for row in texts(mixed(step))]) for step in range(in_a_pass)]) > 5


def texts(batch):
    return [
        row[valid].tolist() for row, valid in zip(batch.inputs["source"], batch.inputs["source_valid"], strict=True)
    ]


def test_what_cannot_be_a_batch_is_refused():
    for pairs in ([], [([], [1, 2])], [([3], [1])]):
        with refuses(ValueError, "expected pairs of a source with a token and a target with two"):
            pair_batch(pairs)
    with refuses(ValueError, "at least the 5 pairs of one batch, got 4"):
        PairBatches(PAIRS[:4], RECIPE)
    with refuses(ValueError, "a text has 20 tokens, more than the length=16"):
        PairBatches([*PAIRS, ([3] * 20, [1, 2])], RECIPE)


@pytest.fixture(scope="module")
def losses():
    return []


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_run_writes_a_folder_and_goes_on_where_it_was_stopped(name, tmp_path, losses):
    package, measured = load(name), []

    def measure(model):
        measured.append(package.generate(model, [[3, 2]], max_new_tokens=2))
        return len(measured) / 10

    def run(folder, **more):
        return train_pairs(name, folder, CONFIG, RECIPE, PAIRS, {"vocabulary.txt": "a"}, measure, **more)

    whole = list(run(tmp_path / "whole", facts={"held_out": 3}, command="tfguide train"))
    assert [record.score for record in whole] == [None, 0.1, None, 0.2, None, 0.3]
    losses.append([record.loss for record in whole])
    np.testing.assert_allclose(losses[-1], losses[0], rtol=1e-4)  # both frameworks take the same steps
    for record in run(tmp_path / "parts"):
        if record.step == 3:
            break
    with refuses(FileExistsError, "has a run already"):
        next(run(tmp_path / "parts"))
    rest = list(run(tmp_path / "parts", resume=True))
    assert [record.loss for record in rest] == pytest.approx([record.loss for record in whole[4:]], rel=1e-5)
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {
        "config.json", "curve.json", "generation_config.json", "model.safetensors", FILE, "vocabulary.txt",
    }  # fmt: skip
    curve = json.loads((tmp_path / "whole" / "curve.json").read_text())
    assert curve["score"] == [[2, 0.1], [4, 0.2], [6, 0.3]] and "perplexity" not in curve
    assert (curve["command"], curve["framework"], curve["pairs"], curve["held_out"]) == ("tfguide train", name, 53, 3)
    assert package.load_checkpoint(tmp_path / "whole").config == CONFIG
    other = CONFIG.replace(d_ff=16)
    with refuses(ValueError, "parts has another model: encoder.layers.0.feed_forward.up.weight ("):
        next(train_pairs(name, tmp_path / "parts", other, RECIPE, PAIRS, {"vocabulary.txt": "b"}, resume=True))
    assert (tmp_path / "parts" / "vocabulary.txt").read_text() == "a"  # nothing is written before it is known to fit
    with refuses(FileNotFoundError, "there is no run in"):
        next(run(tmp_path / "new", resume=True))
