"""One step of training: AdamW against the frameworks' own, equal steps in both, and a run that is interrupted."""

import io

import numpy as np
import pytest

import tfguide
from tests.support import FRAMEWORKS, load, numpy, random_weights, refuses, small_config, tensor
from tfguide.training import FILE, NO_LABEL, Batch, Recipe, Record, learn, load_state, save_state, show, train

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
    with refuses(ValueError, "expected a model with logits to train, got kind='encoder'"):
        package.Trainer(package.from_weights(encoder, tfguide.init_weights(encoder)), RECIPE)
    with refuses(
        ValueError, "'decoder.final_norm' is no weight of the model; did you mean 'decoder.final_norm.weight'"
    ):
        package.Trainer(package.from_weights(CONFIG, random_weights(CONFIG)), RECIPE, ["decoder.final_norm"])
    with refuses(ValueError, "at least one weight to train, got none"):
        package.Trainer(package.from_weights(CONFIG, random_weights(CONFIG)), RECIPE, [])
    with refuses(ValueError, "a quantised model cannot be trained"):
        package.Trainer(package.quantize(package.from_weights(CONFIG, random_weights(CONFIG)), 8), RECIPE)


TRANSLATOR = small_config("encoder-decoder", positions="relative", norm="rms", n_layers=1)


def pairs(step):
    """Sources and targets of unequal lengths, padded with 0: a target repeats its source."""
    draws = np.random.default_rng(step)
    lengths, width = draws.integers(2, 6, size=5), 5 + step % 2
    source, source_valid = np.zeros((5, width), np.int64), np.arange(width) < lengths[:, None]
    source[source_valid] = draws.integers(3, 37, source_valid.sum())
    labels = np.where(source_valid, source, NO_LABEL)
    target = np.pad(source, ((0, 0), (1, 0)), constant_values=1)[:, :-1]
    return Batch({"source": source, "target": target, "source_valid": source_valid}, labels)


@pytest.fixture(scope="module")
def expected_pairs():
    return []


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_encoder_decoder_takes_the_same_steps_from_padded_batches(name, expected_pairs):
    package, recipe = load(name), Recipe(steps=6, warmup=2, learning_rate=0.01)
    one = package.Trainer(package.from_weights(TRANSLATOR, random_weights(TRANSLATOR)), recipe)
    losses = [record.loss for record in learn(one, pairs)]
    expected_pairs.append(losses)
    np.testing.assert_allclose(losses, expected_pairs[0], rtol=1e-4)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_place_without_a_label_counts_for_nothing(name):
    draws = np.random.default_rng(0)
    logits, labels = draws.normal(size=(3, 5, 7)).astype(np.float32), draws.integers(0, 7, (3, 5))
    rows = np.arange(15) % 2 == 0
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = -np.take_along_axis(logs, labels[..., None], -1).ravel()[rows].mean()
    labels.ravel()[~rows] = NO_LABEL
    assert float(load(name).cross_entropy(tensor(name, logits), tensor(name, labels))) == pytest.approx(wanted, 1e-5)


def test_a_batch_says_what_is_wrong_with_its_labels():
    for labels, error, message in (
        (np.zeros((2, 3)), TypeError, "labels must be an array of integers, got float64"),
        ([1, 2], TypeError, "labels must be an array of integers, got list"),
        (np.full((2, 3), NO_LABEL), ValueError, "labels must be at least 0, or -1 at some places"),
        (np.array([3, -2]), ValueError, "labels must be at least 0, or -1 at some places"),
    ):
        with refuses(error, message):
            Batch({}, labels)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_some_weights_are_trained_and_the_others_stay(name, tmp_path):
    names = [weight for weight in random_weights(CONFIG) if "feed_forward" in weight]
    package, before = load(name), random_weights(CONFIG)
    one = package.Trainer(package.from_weights(CONFIG, before), RECIPE, names[::-1])
    records = list(train(one, TOKENS))
    after = one.model.to_weights()
    assert {weight for weight in before if (after[weight] != before[weight]).any()} == set(names)
    assert records[-1].loss < records[0].loss
    save_state(tmp_path, one, records)
    other = package.Trainer(package.from_weights(CONFIG, tfguide.init_weights(CONFIG, 5)), RECIPE, names)
    assert load_state(tmp_path, other) == records
    for weight, array in other.model.to_weights().items():
        np.testing.assert_array_equal(array, after[weight])


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
