"""`python -m tfguide.bench.speculative` and its drafts on tiny models, and the formula beside what is counted."""

import json

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights, small_config
from tfguide import cost
from tfguide.bench import drafts, rounds, speculative
from tfguide.bench.rounds import record_rounds
from tfguide.bench.speculative import measure_speculation, predict, table
from tfguide.generation import PromptLookup, Sampling
from tfguide.training import Recipe, train

PROMPT = [3, 7, 11, 3, 7, 5, 3, 7]


def pair(name, scale=30, **changes):
    """A target and a draft of fewer layers, whose texts are no constant."""
    models = []
    for seed, n_layers in ((0, 3), (1, 1)):
        config = small_config(positions="rotary", n_layers=n_layers, max_positions=64, **changes)
        weights = random_weights(config, seed)
        weights["embedding.token.weight"] *= scale
        models.append(load(name).from_weights(config, weights))
    return models


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_row_says_what_was_accepted_and_what_the_formula_makes_of_it(name):
    model, draft = pair(name)
    kept = []
    contestants = {"prompt lookup": PromptLookup(2), "itself": model, "other": draft}
    lengths = (1, 3) if name == "torch" else (3,)
    rows = measure_speculation(model, contestants, {"repeat": PROMPT}, lengths, 9, 1, keep=kept.append)
    assert [(row["draft"], row["k"]) for row in rows] == [(d, k) for d in contestants for k in lengths]
    assert all(row["same"] and np.isfinite(row["speedup"]) and row["task"] == "repeat" for row in rows)
    assert kept == [rows]
    own = [row for row in rows if row["draft"] == "itself"]
    assert all(row["acceptance"] == 1.0 for row in own)
    assert {row["k"]: row["tokens_per_call"] for row in own} == {
        k: pytest.approx(9 / -(-9 // (k + 1))) for k in lengths
    }
    for row in rows:
        assert row["check_costs"][0] == 1.0 and row["predicted"] > 0 and row["draft_cost"] > 0
        assert row["tokens_per_call"] == pytest.approx(row["expected_tokens"]) or 0 < row["acceptance"] < 1
    assert len(table(rows).splitlines()) == 1 + len(rows)
    for wrong in ({"lengths": [0]}, {"n_new": 1}, {"repeats": 0}):
        with pytest.raises(ValueError, match="must be at least"):
            measure_speculation(model, contestants, {"repeat": PROMPT}, **wrong)


def test_the_prediction_counts_each_round_with_its_own_length():
    found = predict([(2, 2), (2, 0), (0, 0)], 0.5, 0.1, [1.0, 1.2, 1.5])
    expected = [cost.speculative_tokens(0.5, 2)] * 2 + [1.0]
    assert found["expected_tokens"] == pytest.approx(sum(expected) / 3)
    assert found["tokens_per_call"] == pytest.approx(5 / 3) and found["drafted_per_call"] == pytest.approx(4 / 3)
    assert found["predicted"] == pytest.approx(sum(expected) / (0.4 + 1.5 + 1.5 + 1.0))
    assert found["predicted_free"] == pytest.approx(sum(expected) / (0.4 + 3))
    one = predict([(4, 2)], 0.7, 0.2, [1, 1, 1, 1, 1.3])
    assert one["predicted"] == pytest.approx(cost.speculative_speedup(0.7, 4, 0.2, 1.3))
    assert predict([(0, 0)], float("nan"), 0.0, [1.0])["predicted"] == 1.0


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_recorded_rounds_are_those_of_the_package(name):
    model, draft = pair(name, scale=3)
    sampling = Sampling(temperature=9.0, top_k=29, seed=5)
    found = record_rounds(model, draft, PROMPT, sampling, 3, 5)
    tokens = [token for one in found for token in [*one["drafted"][: one["accepted"]], one["next"]]]
    result = load(name).speculative_generate(model, draft, [PROMPT], len(tokens) + 4, 3, [], sampling)
    assert result.tokens[0][: len(tokens)] == tokens
    assert result.rounds[:5] == [(3, one["accepted"]) for one in found]
    assert len({one["accepted"] for one in found}) > 1
    for one in found:
        assert [len(row) for row in one["target"]] == [len(some) for some in one["support"]]
        np.testing.assert_allclose([sum(row) for row in one["target"] + one["draft"]], 1)
    with pytest.raises(ValueError, match="temperature above 0"):
        record_rounds(model, draft, PROMPT, Sampling(temperature=0.0))


def test_a_draft_learns_to_guess(tmp_path):
    guide = load("torch")
    model, draft = pair("torch")
    text = drafts.write_text(model, [PROMPT, PROMPT[2:], PROMPT[:3]], 40, 2)
    assert len(text) == 3 * 40 + 8 + 6 + 3 and text[:8].tolist() == PROMPT
    again = drafts.write_text(model, [PROMPT, PROMPT[2:], PROMPT[:3]], 40, 2)
    np.testing.assert_array_equal(text, again)
    records = list(train(guide.Trainer(draft, Recipe(steps=30, rows=2, length=16, warmup=2)), text))
    assert len(records) == 30 and records[-1].loss < 0.7 * records[0].loss


def test_the_results_add_up(tmp_path):
    """Rows of another target stay in the file, those of the same one are measured anew."""
    file = tmp_path / "result.json"
    about = {"task": "speculation", "machine": {"processor": "one"}}
    speculative.write_rows(file, about, [{"dtype": "int8", "temperature": 0.0, "k": 2}])
    speculative.write_rows(file, about, [{"dtype": "bfloat16", "temperature": 0.0, "k": 2}])
    speculative.write_rows(file, about, [{"dtype": "int8", "temperature": 0.0, "k": 4}])
    rows = json.loads(file.read_text())["rows"]
    assert [(row["dtype"], row["k"]) for row in rows] == [("bfloat16", 2), ("int8", 4)]
    with pytest.raises(ValueError, match=r"result\.json was measured on .'processor': 'one'., this"):
        speculative.write_rows(file, about | {"machine": {"processor": "two"}}, [])


def test_tasks_and_drafts_of_the_model_of_the_book(tmp_path, monkeypatch, capsys):
    smollm = pytest.importorskip("tfguide.tasks.smollm")
    if not smollm.is_installed():
        pytest.skip("SmolLM2 is not installed")
    prompts = drafts.prompts_of(smollm.file(), tuple(drafts.TASKS))
    assert all(50 < len(prompt) < 600 for name, prompt in prompts.items() if name != "story")
    learned = drafts.prompts_to_learn_from(smollm.file(), 8)
    assert len({tuple(prompt) for prompt in learned}) == 8
    assert not {tuple(prompt) for prompt in prompts.values()} & {tuple(prompt) for prompt in learned}
    assert tfguide.PromptLookup(3).propose(prompts["edit code"], 4)
    assert rounds.TOP_K == 4
