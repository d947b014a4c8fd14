"""A mixture of experts: a router sends each token to a few of many feed-forward networks."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfguide.checks.shapes import check_experts, check_features, check_routing
from tfguide.config import GATED_ACTIVATIONS
from tfguide.parts import CLAMPED_SLOPE, TINY, Experts
from tfguide.tensorflow.feedforward import FeedForward, activate
from tfguide.tensorflow.linear import leaves_out_matrices
from tfguide.tensorflow.tensors import at_least_float32, multiply_rows


def clamped_swiglu(up: tf.Tensor, gate: tf.Tensor, clamp: float) -> tf.Tensor:
    """gpt-oss's gate: `g sigmoid(1.702 g) (u + 1)` with g at most `clamp` and u between `-clamp` and `clamp`.

    up, gate: (..., F). Source: OpenAI 2025, "gpt-oss-120b and gpt-oss-20b Model Card", and its reference code.
    """
    gate, up = tf.minimum(gate, clamp), tf.clip_by_value(up, -clamp, clamp)
    return gate * tf.sigmoid(CLAMPED_SLOPE * gate) * (up + 1)


def route(logits: tf.Tensor, experts: Experts, correction: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
    """The experts of each token, and their weights: two tensors (..., k).

    logits: (..., n_experts), the router's numbers; correction: (n_experts,), added to the scores for the choice alone.
    Of equal scores the first one is chosen. Sources: see `tfguide.Experts`.
    Raises ValueError where the logits do not end in `n_experts` numbers.
    """
    check_routing(tuple(logits.shape), experts)
    scores = tf.sigmoid(logits) if experts.router == "sigmoid" else tf.nn.softmax(logits)
    choice = scores if correction is None else scores + correction
    if experts.n_groups > 1:
        size = experts.n_experts // experts.n_groups
        groups = tf.reshape(choice, tf.concat([tf.shape(choice)[:-1], [experts.n_groups, size]], axis=0))
        best = tf.reduce_sum(tf.math.top_k(groups, 2).values, axis=-1)  # (..., groups)
        kept = tf.one_hot(_highest(best, experts.groups_per_token), experts.n_groups, True, False, dtype=tf.bool)
        kept = tf.repeat(tf.reduce_any(kept, axis=-2), size, axis=-1)  # (..., n_experts)
        choice = tf.where(kept, choice, -float("inf"))
    chosen = _highest(choice, experts.per_token)
    weights = tf.gather(scores, chosen, batch_dims=len(scores.shape) - 1)
    if experts.normalised:
        weights = weights / (tf.reduce_sum(weights, axis=-1, keepdims=True) + TINY)
    return chosen, weights * experts.scale


class Router(keras.layers.Dense):
    """A linear layer from D features to a number for each expert, and the choice by these numbers, in float32."""

    def __init__(self, d_model: int, experts: Experts):
        super().__init__(experts.n_experts, use_bias=experts.router_bias, autocast=False)
        self.sizes, self.correction_bias = experts, None
        if experts.correction_bias:
            shape, name = (experts.n_experts,), "correction_bias"
            self.correction_bias = self.add_weight(
                name=name, shape=shape, initializer="zeros", dtype="float32", trainable=False
            )
        self.build((None, d_model))

    def call(self, x):
        """x: (..., D) to the experts of each position and their weights, two tensors (..., k)."""
        x = at_least_float32(x)
        logits = multiply_rows(x, tf.cast(self.kernel, x.dtype))
        if self.bias is not None:
            logits = logits + tf.cast(self.bias, x.dtype)
        return route(logits, self.sizes, self.correction_bias)


class StackedLinear(keras.layers.Layer):
    """A linear layer for each of n experts: `x @ weight[e] + bias[e]`, weight (n, in, out) as in keras.layers.Dense.

    expert: a number, and x (N, in); or numbers (N, k), and x (N, k, in).
    """

    def __init__(self, n: int, d_in: int, d_out: int, bias: bool = True):
        super().__init__(autocast=False)
        uniform = keras.initializers.RandomUniform(-(d_in**-0.5), d_in**-0.5)
        self.weight = self.add_weight(name="weight", shape=(n, d_in, d_out), initializer=uniform)
        self.bias = self.add_weight(name="bias", shape=(n, d_out), initializer=uniform) if bias else None
        self.built = True

    def call(self, x, expert):
        """x: (..., in) to (..., out)."""
        weight = tf.gather(self.weight, expert)  # no other expert is read
        y = multiply(tf.cast(x, weight.dtype), weight)
        return y if self.bias is None else y + tf.gather(self.bias, expert)


class ExpertNetworks(keras.layers.Layer):
    """n feed-forward networks of one shape, their weights stacked: (..., D) to (..., D); expert: as in the layers."""

    def __init__(self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True):
        super().__init__(autocast=False)
        sizes = experts.n_experts, d_model, experts.d_expert
        self.activation, self.clamp = activation, experts.clamp
        self.gate = _stacked(*sizes, bias) if activation in GATED_ACTIVATIONS else None
        self.up = _stacked(*sizes, bias)
        self.down = _stacked(experts.n_experts, experts.d_expert, d_model, bias)
        self.built = True

    def call(self, x, expert):
        """x: (..., D) to (..., D)."""
        up, gate = self.up(x, expert=expert), None if self.gate is None else self.gate(x, expert=expert)
        h = activate(self.activation, up, gate) if self.clamp is None else clamped_swiglu(up, gate, self.clamp)
        return self.down(h, expert=expert)


class MixtureOfExperts(keras.layers.Layer):
    """The sum of the chosen experts, weighted by the router, and of the shared experts; (B, T, D) to (B, T, D).

    Of the matrices of an expert that no token chose, no number is read. wide: as in `FeedForward`. In a graph with
    more choices than experts, or an unknown number, an expert that is chosen reads every token, with weight 0 where it
    was not chosen: shapes do not depend on the choice.
    Source: Shazeer et al. 2017; shared experts: Dai et al. 2024. Raises ValueError for an unknown activation, and for a
    clamp with another one than "swiglu".
    """

    def __init__(
        self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True, wide: bool = False
    ):
        super().__init__(autocast=False)
        check_experts(d_model, experts, activation)
        self.d_model, self.sizes = d_model, experts
        self.wide = wide and self.compute_dtype == "float16"
        self.router = Router(d_model, experts)
        self.experts = ExpertNetworks(d_model, experts, activation, bias)
        self.shared = FeedForward(d_model, experts.d_shared, activation, bias, wide) if experts.n_shared else None
        self.built = True

    def call(self, x):
        """x: (B, T, D) to (B, T, D)."""
        check_features("x", tuple(x.shape), self.d_model)
        rows = tf.reshape(x, (-1, self.d_model))  # (N, D)
        chosen, weights = self.router(rows)  # (N, k)
        n = chosen.shape.num_elements()
        if tf.executing_eagerly():
            y = self._grouped(rows, chosen, weights)
        elif n is not None and n <= self.sizes.n_experts:
            y = self._gathered(rows, chosen, weights)
        else:
            y = self._masked(rows, chosen, weights)
        y = tf.cast(tf.reshape(y, tf.shape(x)), tf.float32 if self.wide else x.dtype)
        return y if self.shared is None else y + self.shared(x)

    def _grouped(self, rows, chosen, weights):
        """The sum of the chosen experts (N, D): each reads its matrices once, for all the rows that chose it."""
        flat = tf.reshape(chosen, [-1])
        order = tf.argsort(flat, stable=True)  # the N k choices by expert, and by row
        counts = tf.math.bincount(flat, minlength=self.sizes.n_experts)
        y = tf.zeros(rows.shape, weights.dtype)
        for expert, choices in enumerate(tf.split(order, counts)):
            if len(choices):
                own = choices // self.sizes.per_token
                weight = tf.gather(tf.reshape(weights, [-1]), choices)[:, None]
                part = tf.cast(self.experts(tf.gather(rows, own), expert=expert), y.dtype)
                y = tf.tensor_scatter_nd_add(y, own[:, None], weight * part)
        return y

    def _gathered(self, rows, chosen, weights):
        """The sum of the chosen experts (N, D): each row reads the matrices of its own."""
        repeated = tf.repeat(rows[:, None], self.sizes.per_token, axis=1)  # (N, k, D)
        parts = tf.cast(self.experts(repeated, expert=chosen), weights.dtype)
        return tf.reduce_sum(weights[..., None] * parts, axis=1)

    def _masked(self, rows, chosen, weights):
        """The sum of the chosen experts (N, D): each of them reads every row, with weight 0 where it was not chosen."""

        def add(expert, y):
            weight = tf.reduce_sum(tf.where(chosen == expert, weights, 0), axis=-1, keepdims=True)  # (N, 1)
            added = tf.cond(
                tf.reduce_any(chosen == expert),
                lambda: weight * tf.cast(self.experts(rows, expert=expert), weights.dtype),
                lambda: tf.zeros_like(y),
            )
            return expert + 1, y + added

        start = tf.constant(0), tf.zeros_like(rows, dtype=weights.dtype)
        n = self.sizes.n_experts
        return tf.while_loop(lambda expert, y: expert < n, add, start, maximum_iterations=n)[1]


def dense_mixture(layer: MixtureOfExperts, x: tf.Tensor) -> tf.Tensor:
    """What `MixtureOfExperts` computes, as a sum over all experts: those not chosen have weight 0; (B, T, D).

    Every expert reads every position: the formula, and the oracle of the layer.
    """
    chosen, weights = layer.router(x)
    rows = tf.reshape(x, (-1, layer.d_model))
    y = tf.zeros_like(x) if layer.shared is None else layer.shared(x)
    for expert in range(layer.sizes.n_experts):
        weight = tf.reduce_sum(tf.where(chosen == expert, weights, 0), axis=-1, keepdims=True)  # (B, T, 1)
        part = tf.reshape(tf.cast(layer.experts(rows, expert=expert), weights.dtype), tf.shape(x))
        y = y + tf.cast(weight * part, y.dtype)
    return y


def multiply(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """x (N, in) by one weight (in, out), or x (N, k, in) each by its own, weight (N, k, in, out)."""
    if len(weight.shape) == 2:
        return tf.matmul(x, weight)
    return tf.matmul(x[..., None, :], weight)[..., 0, :]  # (N, k, out)


def _stacked(n, d_in, d_out, bias):
    return keras.layers.Identity() if leaves_out_matrices() else StackedLinear(n, d_in, d_out, bias)


def _highest(scores, k):
    """The places of the k highest scores along the last axis; of equal ones, the first."""
    return tf.math.top_k(scores, k).indices
