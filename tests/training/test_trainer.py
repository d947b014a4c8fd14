"""One step of training: AdamW against the frameworks' own, equal steps in both, and a run that is interrupted."""

import io

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, small_config, tensor
from tfguide.training import FILE, Recipe, Record, load_state, save_state, show, train

CONFIG = small_config(n_layers=1, norm="rms", positions="rotary", activation="swiglu", n_kv_heads=3)
RECIPE = Recipe(steps=12, warmup=2, rows=3, length=7, measure_every=5, learning_rate=0.02)
TOKENS = np.random.default_rng(0).integers(0, 37, 400) // 3


def trainer(name, recipe=RECIPE):
    return load(name).Trainer(load(name).from_weights(CONFIG, random_weights(CONFIG)), recipe)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_adamw_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch")
    draws = np.random.default_rng(0)
    weight, gradients = draws.normal(size=(5, 3)), draws.normal(size=(4, 5, 3)) * 0.01
    theirs = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float32))
    optimizer = torch.optim.AdamW(
        [theirs], lr=0.03, betas=(RECIPE.beta1, RECIPE.beta2), eps=RECIPE.epsilon, weight_decay=0.2
    )
    start = [tensor(name, array) for array in (weight, np.zeros((5, 3)), np.zeros((5, 3)))]
    if name == "tensorflow":
        import tensorflow as tf

        start = [tf.Variable(value) for value in start]
    for update, gradient in enumerate(gradients):
        theirs.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
        ours, mean, square = start
        load(name).adamw(ours, tensor(name, gradient), mean, square, update, 0.03, 0.2, RECIPE)
        np.testing.assert_allclose(numpy(ours), numpy(theirs), rtol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_clipping_keeps_the_direction_and_limits_the_norm(name):
    arrays = [np.full((3, 5), 2.0), np.full(7, -1.0)]
    norm = np.sqrt(60 + 7)
    for limit, scale in ((1.0, 1 / norm), (100.0, 1.0)):
        clipped, found = load(name).clip_gradients([tensor(name, array) for array in arrays], limit)
        assert float(found) == pytest.approx(norm)
        for one, array in zip(clipped, arrays, strict=True):
            np.testing.assert_allclose(numpy(one), array * scale, rtol=1e-5)


@pytest.fixture(scope="module")
def expected():
    """What the first framework found; the second is compared with it."""
    return []


@pytest.fixture(scope="module", params=FRAMEWORKS)
def run(request):
    """The name of a framework, the trainer of a whole run, and its records."""
    pytest.importorskip(request.param)
    one = trainer(request.param)
    return request.param, one, list(train(one, TOKENS, TOKENS[:50]))


def test_both_frameworks_take_the_same_steps(run, expected):
    _, _, records = run
    assert [record.step for record in records if record.perplexity] == [4, 9, 11]
    assert records[-1].loss < records[0].loss - 0.5
    assert records[0].norm > RECIPE.clip  # so clipping was at work
    found = np.array([(r.loss, r.norm, r.perplexity or 0) for r in records])
    expected.append(found)
    np.testing.assert_allclose(found, expected[0], rtol=1e-4)


def test_a_run_goes_on_as_if_it_had_not_been_interrupted(run, tmp_path):
    name, _, whole = run
    first, records = trainer(name), []
    for record in train(first, TOKENS, TOKENS[:50]):
        records.append(record)
        if record.step == 4:
            break
    save_state(tmp_path, first, records)
    for again in FRAMEWORKS if name == "torch" else [name]:  # the file belongs to no framework
        pytest.importorskip(again)
        other = trainer(again)
        assert load_state(tmp_path, other) == records
        rest = list(train(other, TOKENS, start=len(records)))
        tolerance = 0 if again == name else 1e-4
        assert [r.loss for r in rest] == pytest.approx([r.loss for r in whole[5:]], rel=tolerance, abs=0)
    with refuses(ValueError, "another recipe: learning_rate 0.02 and 0.01"):
        load_state(tmp_path, trainer(name, Recipe(**{**vars(RECIPE), "learning_rate": 0.01})))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_trained_model_is_a_model(run):
    """Training changes every weight of the model that it was given, which then generates."""
    name, one, _ = run
    before, after = random_weights(CONFIG), one.model.to_weights()
    assert all((after[weight] != before[weight]).any() for weight in before)
    assert load(name).generate(one.model, [[1, 2, 3]], max_new_tokens=4)[0]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_cannot_be_trained_is_refused(name):
    package, encoder = load(name), small_config("encoder")
    with refuses(ValueError, "kind 'decoder', got 'encoder'"):
        package.Trainer(package.from_weights(encoder, tfguide.init_weights(encoder)), RECIPE)
    with refuses(ValueError, "a quantised model cannot be trained"):
        package.Trainer(package.quantize(package.from_weights(CONFIG, random_weights(CONFIG)), 8), RECIPE)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_for_a_terminal():
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        show(Record(5, 1.23456, 1.0, 0.1), RECIPE, stream)
    assert terminal.getvalue() == "\r[###############...............] step 6 of 12, loss 1.235"
    show(Record(6, 1.2, 1.0, 0.1, 3.0), RECIPE, terminal)
    assert terminal.getvalue().endswith(" \r") and file.getvalue() == ""
