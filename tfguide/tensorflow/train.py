"""One step of training: loss, gradients, clipping, AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfguide.tensorflow.models import Decoder, Encoder, EncoderDecoder
from tfguide.tensorflow.tensors import to_float32
from tfguide.tensorflow.weighted import variable_of
from tfguide.training import NO_LABEL, Batch, Recipe, trained_names
from tfguide.weights import weight_table


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The mean negative log probability of labels (...) under logits (..., V): a scalar, in nats for a label.

    A label of -1 does not count.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    counts = tf.cast(labels != NO_LABEL, losses.dtype)
    return tf.reduce_sum(losses * counts) / tf.reduce_sum(counts)


def clip_gradients(gradients: Sequence[tf.Tensor], limit: float) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Gradients scaled down together so that their common norm is at most `limit`, and the norm before.

    The direction stays, since all are scaled by one number. Source: Pascanu et al. 2013.
    """
    norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients]))
    scale = tf.minimum(limit / (norm + 1e-6), 1.0)
    return [gradient * scale for gradient in gradients], norm


def adamw(
    weight: tf.Variable,
    gradient: tf.Tensor,
    mean: tf.Variable,
    square: tf.Variable,
    update: int | tf.Tensor,
    rate: float | tf.Tensor,
    decay: float,
    recipe: Recipe,
) -> None:
    """Change a weight, and the moments `mean` and `square` of its gradients, by one update of AdamW, in place.

    update: how many came before. The decay is decoupled: it shrinks the weight and is no part of the gradient.
    Source: Kingma & Ba 2014, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """
    mean.assign(mean + (1 - recipe.beta1) * (gradient - mean))
    square.assign(recipe.beta2 * square + (1 - recipe.beta2) * tf.square(gradient))
    unbiased = mean / (1 - recipe.beta1 ** (update + 1))  # both began at 0
    spread = tf.sqrt(square / (1 - recipe.beta2 ** (update + 1)))
    weight.assign((1 - rate * decay) * weight - rate * unbiased / (spread + recipe.epsilon))


class Trainer:
    """Trains a model by a recipe; it changes the model that it is given.

    names: the weights that are trained, canonical; default: all. Raises ValueError for an encoder without
    labels, for a quantised model, and for a name that is no weight.
    """

    def __init__(self, model: Encoder | Decoder | EncoderDecoder, recipe: Recipe, names: Sequence[str] | None = None):
        self.names = trained_names(model.config, names)
        if model.quantization is not None or model.block_types:
            raise ValueError("a quantised model cannot be trained: its weights are integers")
        self.model, self.recipe = model, recipe
        self.table = weight_table(model.config)
        self.weights = [variable_of(model, name).value for name in self.names]
        self.means = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights]
        self.squares = [tf.Variable(tf.zeros_like(weight)) for weight in self.weights]
        # The graph of one step: built at the first call, and once more where batches have unequal shapes.
        self._traced = tf.function(self._step, autograph=False, reduce_retracing=True)

    def step(self, batch: Batch, update: int) -> tuple[float, float]:
        """Learn from a batch; the loss before the update, and the norm of the gradients before clipping.

        update: how many came before.
        """
        inputs = {name: tf.constant(array) for name, array in batch.inputs.items()}
        numbers = tf.constant(update, tf.float32), tf.constant(self.recipe.rate_of(update), tf.float32)
        loss, norm = self._traced(inputs, tf.constant(batch.labels), *numbers)
        return float(loss), float(norm)

    def _step(self, inputs, labels, update, rate):
        with tf.GradientTape() as tape:
            out = self.model(**inputs, training=True)
            if self.model.config.kind == "encoder":
                out = self.model.classify(out, inputs.get("valid"))
            loss = cross_entropy(out, labels)
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, self.weights)]
        gradients, norm = clip_gradients(gradients, self.recipe.clip)
        for weight, gradient, mean, square in zip(self.weights, gradients, self.means, self.squares, strict=True):
            decay = self.recipe.decay if len(weight.shape) > 1 else 0.0
            adamw(weight, gradient, mean, square, update, rate, decay, self.recipe)
        return loss, norm

    def moments(self) -> dict[str, np.ndarray]:
        """The moments of the gradients, "mean.NAME" and "square.NAME", in the canonical shape of each weight."""
        pairs = (("mean", self.means), ("square", self.squares))
        return {
            f"{kind}.{name}": to_float32(tensor)
            for kind, tensors in pairs
            for name, tensor in zip(self.names, tensors, strict=True)
        }

    def restore(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> None:
        """Set the weights of the model and the moments of the gradients, from canonical names."""
        for name in self.table:
            variable_of(self.model, name).assign(weights[name])
        for i, name in enumerate(self.names):
            self.means[i].assign(moments[f"mean.{name}"])
            self.squares[i].assign(moments[f"square.{name}"])
