"""Compilation: a decoding step as one program, made once for all lengths."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfguide import native
from tfguide.generation import pad_prompts, stopping
from tfguide.generation.caching import check_cache_sizes
from tfguide.generation.compiled import as_rows, check_fits, told
from tfguide.tensorflow.cache import KVCache
from tfguide.tensorflow.generate import prefill
from tfguide.tensorflow.models import Decoder


class CompiledDecoder:
    """Greedy generation by compiled code; its tokens are those of `generate`.

    PyTorch: `torch.compile` makes one program of a whole step, and Python runs the loop. TensorFlow: XLA makes one
    program of the whole loop. Either is made in the first call and serves every prompt and length up to `max_length`,
    with attention over the whole cache of that size, masked: choose it no larger than needed. The prompt is read by
    the model itself.

    Compiling takes long, and longer with more layers: for the 30 of SmolLM2-135M 44 s in PyTorch on two cores. It pays
    where many texts follow; for a few, `accelerate` is ready in a moment and decodes sooner. A terminal is told so.

    Where PyTorch finds no C++ compiler it warns once and goes on without compiling.
    Raises ValueError for a model that is not decoder-only, and sizes below 1.
    """

    def __init__(self, model: Decoder, max_length: int, batch_size: int = 1):
        native.check(model.config)
        batch_size, max_length = check_cache_sizes(model.config, batch_size, max_length)
        self.model, self.config = model, model.config
        self.max_length, self.batch_size = max_length, batch_size
        self._loop = tf.function(self._plain_loop, jit_compile=True)
        self._first = True

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 64, stop_tokens: Sequence[int] | int | None = None
    ) -> list[list[int]]:
        """Continue each of `batch_size` prompts greedily: the new tokens of each row, as `generate` returns them.

        Raises ValueError where prompt and continuation do not fit into `max_length`, and as `generate`.
        """
        tokens, lengths = pad_prompts(prompts, self.config.vocab_size)
        max_new_tokens, stops = stopping(self.config, max_new_tokens, stop_tokens)
        check_fits(self, len(tokens), int(lengths.max()) + max_new_tokens - 1)
        cache = KVCache(self.config, self.batch_size, self.max_length, self.model.compute_dtype)
        logits = prefill(self.model, tokens, cache, lengths)
        first = tf.argmax(tf.cast(logits, tf.float32), axis=-1, output_type=tf.int32)
        is_stop = np.isin(np.arange(self.config.vocab_size), list(stops))
        keys, values = ([tf.convert_to_tensor(x) for x in tensors] for tensors in (cache.keys, cache.values))
        broken = tf.reduce_any(tf.math.is_nan(logits))
        n = tf.constant(max_new_tokens)
        called_first, self._first = self._first, False
        with told(f"compiling a loop of {self.config.n_layers} layers") if called_first else contextlib.nullcontext():
            chosen, broken = self._loop(first, cache.lengths, keys, values, tf.constant(is_stop), n, broken)
        if bool(broken):
            raise ValueError("the logits hold NaN: the weights or the activations are broken, no token can be chosen")
        return as_rows(chosen.numpy()[:, :max_new_tokens], stops)

    def _plain_loop(self, token, lengths, keys, values, is_stop, n, broken):
        """Tokens (B,) that follow `lengths` positions, and what comes after: (B, max_length), n of each row filled."""
        chosen = tf.zeros((self.batch_size, self.max_length + 1), tf.int32)
        chosen = tf.tensor_scatter_nd_update(chosen, [[row, 0] for row in range(self.batch_size)], token)
        state = (tf.constant(1), token, lengths, keys, values, tf.gather(is_stop, token), chosen, broken)

        def goes_on(step, token, lengths, keys, values, ended, chosen, broken):
            return (step < n) & ~tf.reduce_all(ended) & ~broken

        def body(step, token, lengths, keys, values, ended, chosen, broken):
            logits, keys, values = self._plain_step(token[:, None], lengths[:, None], keys, values)
            token = tf.argmax(tf.cast(logits, tf.float32), axis=-1, output_type=tf.int32)
            places = tf.stack([tf.range(self.batch_size), tf.fill([self.batch_size], step)], axis=1)
            chosen = tf.tensor_scatter_nd_update(chosen, places, token)
            ended = ended | tf.gather(is_stop, token)
            broken = broken | tf.reduce_any(tf.math.is_nan(logits))
            return step + 1, token, lengths + 1, keys, values, ended, chosen, broken

        state = tf.while_loop(goes_on, body, state)
        return state[6], state[7]

    def _plain_step(self, tokens, positions, keys, values):
        """Tokens (B, 1) at positions (B, 1): their logits (B, V), and the caches with what is new."""
        model, config = self.model, self.config
        key_positions = tf.range(self.max_length)[None]
        distance = positions[:, :, None] - key_positions[:, None, :]  # (B, 1, S)
        visible = distance >= 0
        if config.sliding_window is not None:
            visible = visible & (distance < config.sliding_window)
        bias, rotation = model.decoder._position_terms(positions, key_positions)
        x = model.embedding(tokens, positions)
        slots = [_Slots(key, value, positions) for key, value in zip(keys, values, strict=True)]
        for block, slot in zip(model.decoder.layers, slots, strict=True):
            x = block(x, visible, bias, rotation, cache=slot)
        logits = model.logits((model.decoder.final_norm(x) if config.final_norm else x)[:, -1])
        return logits, [slot.keys for slot in slots], [slot.values for slot in slots]


class _Slots:
    """One layer's cache as a block uses it: all slots are returned, filled or not, so that no shape ever changes."""

    def __init__(self, keys, values, positions):
        self.keys, self.values, self.positions = keys, values, positions

    def append(self, key, value):
        rows = tf.range(tf.shape(self.keys)[0])[:, None]
        places = tf.stack([rows, self.positions], axis=-1)  # (B, 1, 2)
        self.keys = tf.tensor_scatter_nd_update(self.keys, places, tf.cast(key, self.keys.dtype))
        self.values = tf.tensor_scatter_nd_update(self.values, places, tf.cast(value, self.values.dtype))
        return self.keys, self.values
