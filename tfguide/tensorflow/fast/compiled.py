"""Compilation: a decoding step as one program, compiled once for all lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.dtypes import choose_cache_dtype
from tfguide.generation import pad_prompts, stopping
from tfguide.generation.checks import check_generation
from tfguide.generation.choose import NAN
from tfguide.generation.compiled import CompiledGenerator, as_rows, check_fits
from tfguide.tensorflow.cache import Int4KVCache, KVCache, TensorStorage, cache_of_type, static_view
from tfguide.tensorflow.models import Decoder
from tfguide.tensorflow.verbs import Generator


class CompiledDecoder(CompiledGenerator, Generator):
    """A decoder whose one-token step is compiled for one size of cache; its tokens are those of the model.

    The first call of `decode` compiles the step, which serves every prompt and length up to `max_length`. It attends to
    the whole cache of that size, masked: choose it no larger than needed. The model itself reads the prompt. XLA
    compiles a step for `decode`, and for `generate` the whole loop, in which nothing returns to Python.

    Compile time is long and grows with the number of layers. It pays off for many texts; for a few, `accelerate` is
    ready at once and finishes sooner. A terminal shows the seconds.

    A model in blocks of a GGUF file is dequantised first.
    Raises ValueError for a model that is not decoder-only, and sizes below 1.
    """

    def __init__(self, model: Decoder, max_length: int, batch_size: int = 1):
        native.check(model.config)
        super().__init__(model, max_length, batch_size)
        self.compute_dtype = model.compute_dtype
        self._step = tf.function(self.plain_step, jit_compile=True, autograph=False)
        self._loop = tf.function(self._plain_loop, jit_compile=True, autograph=False)

    @property
    def n_programs(self) -> int:
        """How many programs were compiled so far.

        One for each type of cache that a step has met, and one for each that a loop has met.
        """
        return sum(one.experimental_get_tracing_count() for one in (self._step, self._loop))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int = 64,
        stop_tokens: Sequence[int] | int | None = None,
        cache_dtype: str | None = None,
    ) -> list[list[int]]:
        """Continue each of `batch_size` prompts greedily: the new tokens of each row, as `generate` returns them.

        cache_dtype: as in `new_cache`; each type is compiled once.
        Raises ValueError if prompt and continuation do not fit into `max_length`, and as `generate`.
        """
        tokens, lengths = pad_prompts(prompts, self.config.vocab_size)
        max_new_tokens, stops = stopping(self.config, max_new_tokens, stop_tokens)
        check_generation(self.config, int(lengths.max()), max_new_tokens)
        cache = self.new_cache(len(tokens), int(lengths.max()) + max_new_tokens - 1, cache_dtype)
        logits = self.prefill(tokens, cache, lengths)
        first = tf.constant(np.argmax(logits, axis=-1), tf.int32)
        is_stop = np.isin(np.arange(self.config.vocab_size), list(stops))
        state = first, tf.constant(cache.lengths, tf.int32), cache.storage.tensors, tf.constant(is_stop)
        with self.announced("loop"):
            chosen, broken = self._loop(*state, tf.constant(max_new_tokens), tf.constant(np.isnan(logits).any()))
        if bool(broken):
            raise ValueError(NAN)
        return as_rows(chosen.numpy()[:, :max_new_tokens], stops)

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache | Int4KVCache:
        """An empty cache of the compiled size. Raises ValueError for another batch size or a longer `max_length`.

        cache_dtype: as in the model's `new_cache`; the step is compiled once for each type.
        """
        check_fits(self, batch_size, max_length)
        dtype = choose_cache_dtype(cache_dtype, self.compute_dtype, self.has_small_weights)
        return cache_of_type(self.config, self.batch_size, self.max_length, dtype, TensorStorage)

    def run_step(self, tokens, cache):
        """The compiled step: the logits (B, V) after tokens (B, 1), whose keys and values are written to the cache."""
        arguments = tf.constant(tokens, tf.int32), tf.constant(cache.lengths[:, None], tf.int32)
        with self.announced("step"):
            logits, tensors = self._step(*arguments, cache.storage.tensors)
        cache.storage.replace(tensors)
        return logits

    def plain_step(self, tokens, positions, tensors):
        """The logits (B, V) of tokens (B, 1) at positions (B, 1), and the updated tensors of the cache."""
        view = static_view(tensors, positions)
        hidden = self.model.trunk(tokens, positions, cache=view)
        return self.model.logits(hidden[:, -1]), view.tensors

    def _plain_loop(self, token, lengths, tensors, is_stop, n, broken):
        """Tokens (B,) at positions `lengths` and those that follow: (B, max_length), the first n of each row filled."""
        chosen = tf.zeros((self.batch_size, self.max_length + 1), tf.int32)
        chosen = tf.tensor_scatter_nd_update(chosen, [[row, 0] for row in range(self.batch_size)], token)
        state = (tf.constant(1), token, lengths, tensors, tf.gather(is_stop, token), chosen, broken)

        def goes_on(step, token, lengths, tensors, ended, chosen, broken):
            return (step < n) & ~tf.reduce_all(ended) & ~broken

        def body(step, token, lengths, tensors, ended, chosen, broken):
            logits, tensors = self.plain_step(token[:, None], lengths[:, None], tensors)
            token = tf.argmax(tf.cast(logits, tf.float32), axis=-1, output_type=tf.int32)
            places = tf.stack([tf.range(self.batch_size), tf.fill([self.batch_size], step)], axis=1)
            chosen = tf.tensor_scatter_nd_update(chosen, places, token)
            ended = ended | tf.gather(is_stop, token)
            broken = broken | tf.reduce_any(tf.math.is_nan(logits))
            return step + 1, token, lengths + 1, tensors, ended, chosen, broken

        state = tf.while_loop(goes_on, body, state)
        return state[5], state[6]
