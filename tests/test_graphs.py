"""TensorFlow in graphs: one graph for any sizes, XLA, and Keras's own training loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfguide.reference as ref
import tfguide.tensorflow as tk
from tests.support import batch, random_weights, small_config

CASES = [
    ("encoder", "relative", {}),
    ("decoder", "rotary", dict(sliding_window=3)),
    ("decoder", "alibi", dict(norm_placement="parallel")),
    ("decoder", "learned", {}),
    ("encoder-decoder", "sinusoidal", dict(norm="rms", activation="swiglu")),
]


@pytest.mark.parametrize(("kind", "positions", "changes"), CASES)
def test_one_graph_serves_any_batch_and_length(kind, positions, changes):
    config = small_config(kind, positions=positions, n_kv_heads=3, **changes)
    weights = random_weights(config)
    model = tk.from_weights(config, weights)
    inputs, masks = batch(config)
    names = list(masks)
    tokens, mask = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.bool)

    @tf.function(input_signature=[tokens] * len(inputs) + [mask] * len(masks))
    def graph(*arguments):
        return model(*arguments[: len(inputs)], **dict(zip(names, arguments[len(inputs) :], strict=True)))

    for rows in (slice(None), slice(1, 3)):
        part = [array[rows] for array in inputs], {name: array[rows] for name, array in masks.items()}
        expected = ref.forward(config, weights, *part[0], **part[1])
        output = graph(*(tf.constant(a, tf.int32) for a in part[0]), *(tf.constant(a) for a in part[1].values()))
        np.testing.assert_allclose(output, expected, atol=1e-5)
    assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(("kind", "positions", "changes"), CASES[:2])
def test_xla_gives_the_same(kind, positions, changes):
    config = small_config(kind, positions=positions, **changes)
    weights = random_weights(config)
    model = tk.from_weights(config, weights)
    (tokens,), _ = batch(config)
    compiled = tf.function(lambda tokens: model(tokens), jit_compile=True)
    output = compiled(tf.constant(tokens, tf.int32))
    np.testing.assert_allclose(output, ref.forward(config, weights, tokens), atol=1e-5)


def test_keras_trains_and_predicts():
    config = small_config("decoder", positions="rotary")
    model = tk.from_weights(config, random_weights(config))
    tokens = np.tile(np.arange(10) * 3, (17, 1))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(tokens[:, :-1], tokens[:, 1:], epochs=4, batch_size=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.5
    predicted = model.predict(tokens[:3, :-1], verbose=0)
    assert predicted.shape == (3, 9, 37)
    np.testing.assert_allclose(predicted, model(tokens[:3, :-1]), atol=1e-5)
