"""The TensorFlow side of generation: tensors in, arrays out."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from tfguide.generation import verbs
from tfguide.tensorflow.cache import KVCache
from tfguide.tensorflow.inputs import as_token_types, as_tokens
from tfguide.tensorflow.tensors import to_float32


class Generator(verbs.Generator):
    """`tfguide.generation.Generator` in TensorFlow: a model has `compute_dtype`, and defines `read` and `logits`."""

    as_tokens, as_token_types = as_tokens, as_token_types

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for the model: in the type of its weights."""
        return KVCache(self.config, batch_size, max_length, self.compute_dtype)

    def last_hidden(self, hidden, chunk, before):
        """The hidden state (B, D) of each row's last token: from this chunk if it ends in it, else from `before`."""
        here = tf.gather(hidden, chunk.last, batch_dims=1)
        return here if before is None else tf.where(chunk.ends[:, None], here, before)

    def as_tensor(self, values):
        """A tensor, an array or a list as a tensor beside the weights."""
        return tf.convert_to_tensor(values)

    def as_array(self, tensor):
        """A tensor as a float32 array in main memory."""
        return to_float32(tensor)

    def without_gradients(self):
        """Compute without recording gradients: TensorFlow records them only within a `tf.GradientTape`."""
        return contextlib.nullcontext()
