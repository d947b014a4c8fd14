"""Compilation: a decoding step as one program, compiled once for all lengths."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tfguide import native
from tfguide.generation import generate
from tfguide.generation.checks import check_cache_sizes, check_step
from tfguide.generation.compiled import check_compiled_cache, check_fits, told
from tfguide.torch.cache import KVCache, StaticView
from tfguide.torch.models import Decoder
from tfguide.torch.verbs import Generator


class CompiledDecoder(Generator):
    """A decoder whose one-token step is compiled for one size of cache; its tokens are those of the model.

    The first call of `decode` compiles the step, which serves every prompt and length up to `max_length`. It attends to
    the whole cache of that size, masked: choose it no larger than needed. The model itself reads the prompt.
    `torch.compile` compiles a step; Python runs the loop.

    Compile time grows with the number of layers: 44 s for the 30 of SmolLM2-135M on two cores. It pays off for many
    texts; for a few, `accelerate` is ready at once and finishes sooner. A terminal shows the seconds.

    If PyTorch finds no C++ compiler, it warns once and continues without compiling.
    Raises ValueError for a model that is not decoder-only, and sizes below 1.
    """

    def __init__(self, model: Decoder, max_length: int, batch_size: int = 1):
        native.check(model.config)
        batch_size, max_length = check_cache_sizes(model.config, batch_size, max_length)
        self.model, self.config, self.quantization = model, model.config, model.quantization
        self.dtype, self.device = model.dtype, model.device
        self.max_length, self.batch_size = max_length, batch_size
        self._step = torch.compile(self._plain_step, dynamic=False)
        self._first = True

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int = 64, stop_tokens: Sequence[int] | int | None = None
    ) -> list[list[int]]:
        """Continue each of `batch_size` prompts greedily: the new tokens of each row, as `generate` returns them.

        Raises ValueError if prompt and continuation do not fit into `max_length`, and as `generate`.
        """
        return generate(self, prompts, max_new_tokens, stop_tokens)

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache of the compiled size. Raises ValueError for another batch size or a longer `max_length`."""
        check_fits(self, batch_size, max_length)
        return KVCache(self.config, self.batch_size, self.max_length, self.dtype, self.device)

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked, computed by the model that is not compiled."""
        return self.model.read(tokens, cache, valid, token_types, record)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden states (..., D) to logits (..., V)."""
        return self.model.logits(hidden)

    @torch.inference_mode()  # on the whole method: a tensor created outside would recompile the step
    def decode(self, tokens: Tensor, cache: KVCache) -> np.ndarray:
        """Read one more token of each row, (B,), into a cache of `new_cache`; the logits (B, V) as a float32 array.

        Raises ValueError if the cache is full, empty, or of another size.
        """
        tokens = np.asarray(tokens)
        check_step(self.config, cache, tokens)
        check_compiled_cache(self, cache)
        positions = torch.from_numpy(cache.lengths)[:, None].to(self.device)
        logits = self._run(torch.from_numpy(tokens)[:, None].long().to(self.device), positions, cache.storage.tensors)
        cache.advance(1)
        return logits.float().cpu().numpy()

    def _run(self, *arguments):
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

    def _plain_step(self, tokens, positions, tensors):
        """The logits (B, V) of tokens (B, 1) at positions (B, 1); writes to the tensors of the cache in place."""
        hidden = self.model.trunk(tokens, positions, cache=StaticView(tensors, positions))
        return self.model.logits(hidden[:, -1])
