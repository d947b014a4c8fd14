"""From texts to vectors in TensorFlow: the listings of the page on preprocessing."""

import tensorflow as tf


def batch(tokenizer, texts, pad_id):
    """Texts as ids (B, T), padded on the right, and a mask (B, T), True at tokens."""
    rows = tf.ragged.constant([encoding.ids for encoding in tokenizer.encode_batch(texts)])
    tokens = rows.to_tensor(default_value=pad_id)
    lengths = rows.row_lengths()
    valid = tf.sequence_mask(lengths)  # (B,) -> (B, T)
    return tokens, valid


def embed(tokens, table):
    """The rows of a table (V, D) for ids (B, T): (B, T, D)."""
    return tf.nn.embedding_lookup(table, tokens)


def at_the_last_token(logits, valid):
    """Of logits (B, T, V) those at the last token of each row, (B, V)."""
    last = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1) - 1  # (B,)
    return tf.gather(logits, last, batch_dims=1)
