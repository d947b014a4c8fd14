"""Compilation: a decoding step as one program, compiled once for all lengths."""

from __future__ import annotations

import os
import types
import warnings
from typing import Any

import numpy as np
import torch

from tfguide import native
from tfguide.generation.compiled import CompiledGenerator, check_fits
from tfguide.torch.cache import Int4KVCache, KVCache, static_view
from tfguide.torch.models import Decoder
from tfguide.torch.verbs import Generator


class CompiledDecoder(CompiledGenerator, Generator):
    """A decoder whose one-token step is compiled for one size of cache; its tokens are those of the model.

    The first call of `decode` compiles the step, which serves every prompt and length up to `max_length`. It attends to
    the whole cache of that size, masked: choose it no larger than needed. The model itself reads the prompt.
    `torch.compile` compiles a step; Python runs the loop. Every decoder of a process has a program of its own.

    Compile time grows with the number of layers: 44 s for the 30 of SmolLM2-135M on two cores. It pays off for many
    texts; for a few, `accelerate` is ready at once and finishes sooner. A terminal shows the seconds.

    If PyTorch finds no C++ compiler, it warns once and continues without compiling.
    A model in blocks of a GGUF file is dequantised first.
    Raises ValueError for a model that is not decoder-only, and sizes below 1.
    """

    def __init__(self, model: Decoder, max_length: int, batch_size: int = 1):
        native.check(model.config)
        super().__init__(model, max_length, batch_size)
        self.dtype, self.device = model.dtype, model.device
        self._n_programs = 0
        self._step = torch.compile(own_code(self.plain_step), backend=self._compile, dynamic=False, fullgraph=True)

    @property
    def n_programs(self) -> int:
        """How many programs were compiled so far.

        One for each type of cache that a step has met.
        """
        return self._n_programs

    def new_cache(self, batch_size: int, max_length: int, cache_dtype: str | None = None) -> KVCache | Int4KVCache:
        """An empty cache of the compiled size. Raises ValueError for another batch size or a longer `max_length`.

        cache_dtype: as in the model's `new_cache`; the step is compiled once for each type.
        """
        check_fits(self, batch_size, max_length)
        return super().new_cache(self.batch_size, self.max_length, cache_dtype)

    def run_step(self, tokens, cache):
        """The compiled step: the logits (B, V) after tokens (B, 1), whose keys and values are written to the cache."""
        tokens, positions = (  # copies in order: other strides of an array would compile the step again
            torch.from_numpy(np.array(x, np.int64, order="C")).to(self.device) for x in (tokens, cache.lengths[:, None])
        )
        arguments = tokens, positions, cache.storage.tensors
        try:
            with self.announced("step"):
                return self._step(*arguments)
        except Exception as error:
            if "CxxCompiler" not in f"{type(error).__name__} {error}":  # its type, or that of what it wraps
                raise
            looked_for = os.environ.get("CXX", "g++")
            warnings.warn(
                f"torch.compile found no working C++ compiler (looked for {looked_for}), so nothing is compiled: "
                "install one (Debian: apt install g++), or name it in CXX",
                stacklevel=3,
            )
            self._step = self.plain_step
            return self._step(*arguments)

    def plain_step(self, tokens, positions, tensors):
        """The logits (B, V) of tokens (B, 1) at positions (B, 1); writes to the tensors of the cache in place."""
        hidden = self.model.trunk(tokens, positions, cache=static_view(tensors, positions))
        return self.model.logits(hidden[:, -1])

    def _compile(self, graph, inputs):
        """PyTorch's own compiler of a graph, counted."""
        from torch._dynamo import lookup_backend  # importing it takes a second

        compiled = lookup_backend("inductor")(graph, inputs)
        self._n_programs += 1
        return compiled


def own_code(method: Any) -> Any:
    """A method with a copy of its code: PyTorch keeps programs by code object, and from the ninth on compiles nothing.

    Without the copy all decoders of a process would share eight programs, and the others would run as they are.
    """
    function = method.__func__
    copy = types.FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    return types.MethodType(copy, method.__self__)
