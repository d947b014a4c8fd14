"""The layer that the source leaves empty, an encoder and an encoder-decoder in TensorFlow: listings of "Build one"."""

import math

import keras
import tensorflow as tf
from keras.layers import Dense, Embedding, Layer, LayerNormalization


class MultiHeadAttention(Layer):
    def __init__(self, d_model, num_heads):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"num_heads must divide d_model = {d_model}, got {num_heads}")
        self.depth = d_model // num_heads
        self.query, self.key = Dense(d_model), Dense(d_model)
        self.value, self.out = Dense(d_model), Dense(d_model)

    def call(self, query, key, value, visible=None):
        """query (B, T, D); key, value (B, S, D); visible (T, S) or (B, 1, 1, S), True = may look: (B, T, D)."""
        pairs = (self.query, query), (self.key, key), (self.value, value)
        Q, K, V = (self.split(part(x)) for part, x in pairs)  # (B, T or S, H, d)
        Z = tf.einsum("bthd,bshd->bhts", Q, K) / math.sqrt(self.depth)
        if visible is not None:
            Z = tf.where(visible, Z, -math.inf)
        C = tf.einsum("bhts,bshd->bthd", tf.nn.softmax(Z, axis=-1), V)
        return self.out(tf.reshape(C, tf.shape(query)))  # (B, T, H, d) -> (B, T, D)

    def split(self, x):
        return tf.reshape(x, (*tf.unstack(tf.shape(x)[:2]), -1, self.depth))


class FeedForward(Layer):
    def __init__(self, D, F, activation):
        super().__init__()
        self.up, self.down, self.activation = Dense(F), Dense(D), activation

    def call(self, x):
        return self.down(self.activation(self.up(x)))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class Block(Layer):
    """Attention, in a decoder cross-attention too, and a feed-forward network: each a sum, then a norm."""

    def __init__(self, D, H, F, eps, activation, crosses=False):
        super().__init__()
        self.self_attention, self.self_attention_norm = MultiHeadAttention(D, H), LayerNormalization(epsilon=eps)
        if crosses:
            self.cross_attention, self.cross_attention_norm = MultiHeadAttention(D, H), LayerNormalization(epsilon=eps)
        self.feed_forward, self.feed_forward_norm = FeedForward(D, F, activation), LayerNormalization(epsilon=eps)

    def call(self, x, visible=None, memory=None):
        x = self.self_attention_norm(x + self.self_attention(x, x, x, visible))
        if memory is not None:
            x = self.cross_attention_norm(x + self.cross_attention(x, memory, memory))
        return self.feed_forward_norm(x + self.feed_forward(x))


class Encoder(keras.Model):
    """BERT: three tables, a norm, and blocks in which all see all."""

    def __init__(self, V, D, L, H, F, positions, eps):
        super().__init__()
        self.token, self.position, self.token_type = Embedding(V, D), Embedding(positions, D), Embedding(2, D)
        self.norm = LayerNormalization(epsilon=eps)
        self.blocks = [Block(D, H, F, eps, keras.activations.gelu) for _ in range(L)]

    def call(self, tokens, valid):
        x = self.token(tokens) + self.position(tf.range(tokens.shape[1])) + self.token_type(tf.zeros_like(tokens))
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, visible=valid[:, None, None])  # (B, 1, 1, S): no query looks at padding
        return x


class EncoderDecoder(keras.Model):
    """The Transformer of 2017: an encoder makes the memory, a causal decoder reads it in every block."""

    def __init__(self, V, D, L, H, F, eps):
        super().__init__()
        self.token, self.D = Embedding(V, D), D
        self.encoder = [Block(D, H, F, eps, tf.nn.relu) for _ in range(L)]
        self.decoder = [Block(D, H, F, eps, tf.nn.relu, crosses=True) for _ in range(L)]

    def embed(self, tokens):
        return self.token(tokens) * math.sqrt(self.D) + sinusoids(tokens.shape[1], self.D)

    def call(self, source, target):
        memory, x = self.embed(source), self.embed(target)
        for block in self.encoder:
            memory = block(memory)
        causal = tf.linalg.band_part(tf.ones((x.shape[1], x.shape[1]), tf.bool), -1, 0)
        for block in self.decoder:
            x = block(x, visible=causal, memory=memory)
        return tf.matmul(x, self.token.embeddings, transpose_b=True)  # (B, T, D) -> (B, T, V)


def sinusoids(T, D):
    """(T, D): feature 2i is the sine of position * 10000 ** (-2i / D), feature 2i + 1 its cosine."""
    angles = tf.range(T, dtype=tf.float32)[:, None] * 10000.0 ** (-tf.range(0, D, 2, tf.float32) / D)  # (T, D/2)
    return tf.reshape(tf.stack([tf.sin(angles), tf.cos(angles)], axis=-1), (T, D))


def load(model, weights, names):
    """Take weights by the package's names, after the first call; names: as in PyTorch."""
    for name, array in weights.items():
        there, here = next(pair for pair in names if name.startswith(pair[0]))
        *path, last = (here + name.removeprefix(there)).replace("output.", "out.").split(".")
        part = model
        for step in path:
            part = part[int(step)] if step.isdigit() else getattr(part, step)
        part.weights[("weight", "bias").index(last)].assign(array)
