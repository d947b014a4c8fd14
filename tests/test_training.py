"""Training mode: dropout in both frameworks, and a loss that falls."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, load, numpy, random_weights, small_config, tensor


def train_outputs(name, config, n):
    """The outputs of a model in training mode, n times, and its output for inference."""
    weights = random_weights(config)
    model = load(name).from_weights(config, weights)
    tokens = tensor(name, np.arange(35).reshape(5, 7) % config.vocab_size)
    inputs = (tokens, tokens[:, :3]) if config.kind == "encoder-decoder" else (tokens,)
    plain = numpy(model(*inputs))
    if name == "torch":
        import torch

        torch.manual_seed(0)
        model.train()
        outputs = [numpy(model(*inputs)) for _ in range(n)]
        model.eval()
    else:
        outputs = [numpy(model(*inputs, training=True)) for _ in range(n)]
    np.testing.assert_array_equal(numpy(model(*inputs)), plain)  # inference draws nothing
    return outputs, plain


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_dropout_draws_in_training_only(name, kind):
    outputs, plain = train_outputs(name, small_config(kind, dropout=0.3), 2)
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    assert np.abs(outputs[0] - plain).max() > 0.01
    outputs, plain = train_outputs(name, small_config(kind, dropout=0.0), 1)
    np.testing.assert_allclose(outputs[0], plain, atol=1e-6)


@pytest.mark.parametrize(
    ("block", "kind", "placement", "sublayers"),
    [
        ("EncoderBlock", "encoder", "pre", 2),
        ("EncoderBlock", "encoder", "parallel", 2),
        ("DecoderBlock", "decoder", "pre", 2),
        ("DecoderBlock", "decoder", "parallel", 2),
        ("DecoderBlock", "encoder-decoder", "pre", 3),
    ],
)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_each_sublayer_of_a_block_is_dropped(name, block, kind, placement, sublayers):
    """With what every sublayer adds dropped at once, a block gives back its input: so often, and no more often."""
    layer = getattr(load(name), block)(small_config(kind, dropout=0.5, norm_placement=placement))
    x = tensor(name, np.random.default_rng(0).normal(size=(40, 9, 22)))
    options = dict(memory=x) if sublayers == 3 else {}
    training = {} if name == "torch" else dict(training=True)
    output = numpy((layer.train() if name == "torch" else layer)(x, **options, **training))
    assert (output == numpy(x)).mean() == pytest.approx(0.5**sublayers, abs=0.02)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_dropout_drops_its_share_and_keeps_the_mean(name):
    """An embedding is dropped at the configured rate, and what is kept is scaled up."""
    config = small_config("encoder", dropout=0.25, d_model=24, n_heads=6, d_head=4)
    model = load(name).from_weights(config, random_weights(config))
    tokens, positions = tensor(name, np.zeros((64, 31), int)), tensor(name, np.arange(31)[None])
    if name == "torch":
        plain = numpy(model.embedding(tokens, positions))
        dropped = numpy(model.embedding.train()(tokens, positions))
    else:
        import tensorflow as tf

        tokens, positions = tf.cast(tokens, tf.int32), tf.cast(positions, tf.int32)
        plain = numpy(model.embedding(tokens, positions))
        dropped = numpy(model.embedding(tokens, positions, training=True))
    zero = dropped == 0
    assert zero.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(dropped[~zero], plain[~zero] / 0.75, rtol=1e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_few_steps_lower_the_loss(name):
    """Plain gradient descent learns to repeat a sequence; the step is the framework's own."""
    config = small_config("decoder", positions="rotary", norm="rms", activation="swiglu")
    tokens = np.tile(np.array([[3, 1, 4, 1, 5, 9, 2, 6]]), (2, 2))
    inputs, labels = tensor(name, tokens[:, :-1]), tensor(name, tokens[:, 1:])
    model = load(name).from_weights(config, random_weights(config))
    losses = []
    if name == "torch":
        import torch

        optimizer = torch.optim.SGD(model.train().parameters(), lr=0.3)
        for _ in range(12):
            loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), labels.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    else:
        import keras
        import tensorflow as tf

        optimizer = keras.optimizers.SGD(0.3)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for _ in range(12):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(inputs, training=True))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            losses.append(float(loss))
    assert losses[-1] < losses[0] - 1


def test_both_frameworks_take_the_same_steps():
    config = small_config("decoder", positions="rotary", norm="rms", activation="swiglu", tied_head=False)
    import keras
    import tensorflow as tf
    import torch

    tokens = np.tile(np.array([[3, 1, 4, 1, 5, 9, 2, 6]]), (2, 2))
    one = load("torch").from_weights(config, random_weights(config)).train()
    other = load("tensorflow").from_weights(config, random_weights(config))
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    twin = keras.optimizers.SGD(0.1)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(
            one(torch.from_numpy(tokens[:, :-1])).flatten(0, 1), torch.from_numpy(tokens[:, 1:]).flatten()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with tf.GradientTape() as tape:
            same = loss_of(tokens[:, 1:], other(tokens[:, :-1], training=True))
        variables = other.trainable_variables
        twin.apply_gradients(zip(tape.gradient(same, variables), variables, strict=True))
        assert float(same) == pytest.approx(loss.item(), rel=1e-4)
    trained, twins = load("torch").to_weights(one), load("tensorflow").to_weights(other)
    for name, array in trained.items():
        np.testing.assert_allclose(array, twins[name], atol=1e-4, err_msg=name)
