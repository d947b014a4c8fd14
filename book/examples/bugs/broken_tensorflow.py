"""Five functions of a decoder in TensorFlow, with a bug in each; `fixed_tensorflow.py` has them as they should be."""

import tensorflow as tf

tensor = tf.convert_to_tensor


def new_cache(length, d):
    """Room for the keys (S, d) and the values (S, d) of one head."""
    return tf.Variable(tf.zeros((length, d))), tf.Variable(tf.zeros((length, d)))


def step(q, k, v, keys, values, n):
    """The output (d,) of one new token; n positions of keys (S, d) and values (S, d) are filled before it."""
    keys[n].assign(k), values[n].assign(v)
    keys, values = keys[:n], values[:n]
    weights = tf.nn.softmax(tf.linalg.matvec(keys, q) / len(q) ** 0.5)
    return tf.linalg.matvec(values, weights, transpose_a=True)


def embed(tokens, valid, table, positions):
    """Vectors (B, T, D) of tokens (B, T), padded on the left; valid (B, T) is True at tokens."""
    at = tf.range(valid.shape[1])
    return tf.gather(table, tokens) + tf.gather(positions, at)


def attend(Q, K, V, valid):
    """Attention (B, T, d) to keys and values (B, S, d); valid (B, S) is True at tokens, False at padding."""
    scores = tf.matmul(Q, K, transpose_b=True) / Q.shape[-1] ** 0.5  # (B, T, S)
    scores = tf.where(valid[:, None], -1e9, scores)
    return tf.nn.softmax(scores) @ V


def prefill(Q, K, V, window):
    """Outputs (T, d) of a prompt whose positions see `window` keys each, and the keys and values that are kept."""
    ring = slice(max(len(K) - window, 0), None)  # the cache has room for the last ones
    K, V, at = K[ring], V[ring], tf.range(len(K))[ring]
    behind = tf.range(len(Q))[:, None] - at  # (T, S): how far a key lies behind a query
    visible = (behind >= 0) & (behind < window)
    scores = tf.where(visible, tf.matmul(Q, K, transpose_b=True) / Q.shape[-1] ** 0.5, -1e9)
    return tf.nn.softmax(scores) @ V, K, V


def attend_in_half(Q, K, V):
    """Attention (T, d) of one head in float16, to keys and values (S, d)."""
    scores = tf.matmul(Q, K, transpose_b=True) / Q.shape[-1] ** 0.5
    return tf.nn.softmax(scores) @ V
