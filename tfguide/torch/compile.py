"""Compilation: a decoding step as one program, made once for all lengths."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence

import torch

from tfguide import native
from tfguide.generation import greedy, pad_prompts, stopping
from tfguide.generation.caching import check_cache_sizes
from tfguide.generation.compiled import check_fits, told
from tfguide.torch.cache import KVCache
from tfguide.torch.generate import prefill
from tfguide.torch.models import Decoder


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
        self._step = torch.compile(self._plain_step, dynamic=False)
        self._first = True

    @torch.inference_mode()  # all of it: a tensor made outside would have other guards, and compile the step again
    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 64, stop_tokens: Sequence[int] | int | None = None
    ) -> list[list[int]]:
        """Continue each of `batch_size` prompts greedily: the new tokens of each row, as `generate` returns them.

        Raises ValueError where prompt and continuation do not fit into `max_length`, and as `generate`.
        """
        tokens, lengths = pad_prompts(prompts, self.config.vocab_size)
        max_new_tokens, stops = stopping(self.config, max_new_tokens, stop_tokens)
        check_fits(self, len(tokens), int(lengths.max()) + max_new_tokens - 1)
        weight = self.model.embedding.token.weight
        cache = KVCache(self.config, self.batch_size, self.max_length, weight.dtype, weight.device)
        logits = prefill(self.model, tokens, cache, lengths)
        rows: list[list[int]] = [[] for _ in tokens]
        for step in range(max_new_tokens):
            chosen = greedy(logits.float().cpu().numpy())
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if not (row and row[-1] in stops):
                    row.append(token)
            if step == max_new_tokens - 1 or all(row[-1] in stops for row in rows):
                return rows
            logits = self._run(torch.from_numpy(chosen)[:, None], cache)
            cache.advance(1)
        return rows

    def _run(self, tokens, cache):
        arguments = tokens.to(cache.lengths.device), cache.lengths[:, None], cache.keys, cache.values
        first, self._first = self._first, False
        try:
            with told(f"compiling a step of {self.config.n_layers} layers") if first else contextlib.nullcontext():
                return self._step(*arguments)
        except Exception as error:
            if self._step is self._plain_step or "ompiler" not in type(error).__name__ + str(error):
                raise
            looked_for = os.environ.get("CXX", "g++")
            warnings.warn(
                f"torch.compile found no working C++ compiler (looked for {looked_for}), so nothing is compiled: "
                "install one (Debian: apt install g++), or name it in CXX",
                stacklevel=3,
            )
            self._step = self._plain_step
            return self._step(*arguments)

    def _plain_step(self, tokens, positions, keys, values):
        """Tokens (B, 1) at positions (B, 1): their logits (B, V); the caches are written in place."""
        model, config = self.model, self.config
        key_positions = torch.arange(self.max_length, device=positions.device)[None]
        distance = positions[:, :, None] - key_positions[:, None, :]  # (B, 1, S)
        visible = distance >= 0
        if config.sliding_window is not None:
            visible = visible & (distance < config.sliding_window)
        bias, rotation = model.decoder._position_terms(positions, key_positions)
        x = model.embedding(tokens, positions)
        for block, key, value in zip(model.decoder.layers, keys, values, strict=True):
            x = block(x, visible, bias, rotation, cache=_Slots(key, value, positions))
        return model.logits((model.decoder.final_norm(x) if config.final_norm else x)[:, -1])


class _Slots:
    """One layer's cache as a block uses it: all slots are returned, filled or not, so that no shape ever changes."""

    def __init__(self, keys, values, positions):
        self.keys, self.values, self.positions = keys, values, positions

    def append(self, key, value):
        rows = torch.arange(len(self.keys), device=self.keys.device)[:, None]
        self.keys[rows, self.positions] = key
        self.values[rows, self.positions] = value
        return self.keys, self.values
