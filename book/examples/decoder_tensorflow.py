"""A decoder of Llama's kind in a hundred lines of TensorFlow: the listings of the page "Build one"."""

import math

import keras
import tensorflow as tf
from keras.layers import Dense, Embedding, Layer


def rotate(x, theta):
    """Each pair of features (i, i + d/2) of the heads x (B, T, H, d), turned by its position's angle."""
    T, d = x.shape[1], x.shape[3]
    frequencies = theta ** (-tf.range(0, d, 2, tf.float32) / d)  # (d/2,)
    angles = tf.range(T, dtype=tf.float32)[:, None, None] * frequencies  # (T, 1, d/2): the same for every head
    first, second = tf.split(x, 2, axis=-1)
    turned = first * tf.cos(angles) - second * tf.sin(angles), second * tf.cos(angles) + first * tf.sin(angles)
    return tf.concat(turned, axis=-1)


def attend(Q, K, V, visible):
    """For each query the mean of the values, weighted by softmax(Q K^T / sqrt(d)); all (B, T, H, d)."""
    Z = tf.einsum("bthd,bshd->bhts", Q, K) / math.sqrt(Q.shape[3])
    A = tf.nn.softmax(tf.where(visible, Z, -math.inf), axis=-1)  # (B, H, T, S)
    return tf.einsum("bhts,bshd->bthd", A, V)


def linear(d_in, d_out):
    """A matrix (in, out). Dense makes it when it is first called; here it is made at once, so that it can be filled."""
    layer = Dense(d_out, use_bias=False)
    layer.build((None, d_in))
    return layer


class RMSNorm(Layer):
    def __init__(self, D, eps):
        super().__init__()
        self.weight, self.eps = self.add_weight(shape=(D,), initializer="ones"), eps
        self.built = True

    def call(self, x):
        return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), axis=-1, keepdims=True) + self.eps) * self.weight


class SelfAttention(Layer):
    def __init__(self, D, H, K, d, theta):
        super().__init__()
        self.d, self.groups, self.theta = d, H // K, theta
        self.query = linear(D, H * d)
        self.key, self.value = linear(D, K * d), linear(D, K * d)
        self.out = linear(H * d, D)
        self.built = True

    def call(self, x):
        B, T, _ = x.shape
        Q, K, V = (tf.reshape(part(x), (B, T, -1, self.d)) for part in (self.query, self.key, self.value))
        Q, K = rotate(Q, self.theta), rotate(K, self.theta)
        K, V = (tf.repeat(x, self.groups, axis=2) for x in (K, V))  # (B, T, K, d) -> (B, T, H, d)
        visible = tf.linalg.band_part(tf.ones((T, T), tf.bool), -1, 0)  # no position sees a later one
        return self.out(tf.reshape(attend(Q, K, V, visible), (B, T, -1)))  # (B, T, H, d) -> (B, T, D)


class FeedForward(Layer):
    def __init__(self, D, F):
        super().__init__()
        self.gate, self.up = linear(D, F), linear(D, F)
        self.down = linear(F, D)
        self.built = True

    def call(self, x):
        return self.down(tf.nn.silu(self.gate(x)) * self.up(x))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class Block(Layer):
    def __init__(self, D, H, K, d, F, theta, eps):
        super().__init__()
        self.self_attention_norm, self.feed_forward_norm = RMSNorm(D, eps), RMSNorm(D, eps)
        self.self_attention, self.feed_forward = SelfAttention(D, H, K, d, theta), FeedForward(D, F)
        self.built = True

    def call(self, x):
        x = x + self.self_attention(self.self_attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(keras.Model):
    def __init__(self, V, D, L, H, K, d, F, theta, eps):
        super().__init__()
        self.embedding = Embedding(V, D)
        self.embedding.build()
        self.blocks = [Block(D, H, K, d, F, theta, eps) for _ in range(L)]
        self.final_norm = RMSNorm(D, eps)
        self.built = True

    def call(self, tokens):
        x = self.embedding(tokens)  # (B, T) -> (B, T, D)
        for block in self.blocks:
            x = block(x)
        return tf.matmul(self.final_norm(x), self.embedding.embeddings, transpose_b=True)  # (B, T, D) -> (B, T, V)


def load(model, weights):
    """Take weights by the package's names; a matrix there is (in, out), as in Dense."""
    for name, array in weights.items():
        for there, here in (("decoder.", ""), ("layers.", "blocks."), (".token", ""), (".output", ".out")):
            name = name.replace(there, here)
        part = model
        for step in name.removesuffix(".weight").split("."):
            part = part[int(step)] if step.isdigit() else getattr(part, step)
        part.weights[0].assign(array)  # complains of a shape that does not fit


def write(model, tokens, n):
    """The n most likely tokens, one after the other, behind a list of tokens."""
    for _ in range(n):
        logits = model(tf.constant([tokens]))  # (1, T, V)
        tokens = [*tokens, int(tf.argmax(logits[0, -1]))]
    return tokens
