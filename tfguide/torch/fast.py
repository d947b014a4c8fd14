"""The fast path of decoding: a model's weights, read where they lie by the C++ kernels of `tfguide.native`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tfguide import native
from tfguide.checks.values import check_count
from tfguide.generation.caching import check_decode, check_step
from tfguide.torch.cache import KVCache
from tfguide.torch.models import Decoder, as_tokens, next_positions
from tfguide.torch.prompts import prompt_model
from tfguide.torch.quantize import QuantizedLinear
from tfguide.weights import vector_names


class FastDecoder:
    """A decoder that stands in for a model wherever one is called: the same arguments, the same results, sooner.

    Up to 16 new tokens in a call with a cache of `new_cache` are computed by the C++ kernels, in float32 whatever the
    type of the weights, and so are prompts of any length where activations have 8 bits; more tokens, other caches and
    attention maps by the framework, with kernels in parts of it (see prompts.py). The weights are the model's own, not
    a copy, so the model must stay as it is. Threads may share a fast decoder, each with a cache of its own.

    With 8-bit activations the result for a row is the same to the last bit, whatever stands in the other rows and
    however a prompt is cut into chunks. Otherwise the number of tokens in a call decides who computes, and a row in a
    batch may be rounded otherwise than the row alone: with activations in float32 by the order of sums, some 1e-6 of
    the largest logit; in bfloat16 or float16 by a few roundings to that type. Two logits that are nearer than that may
    change places.

    Raises ValueError for a model that is not decoder-only or has relative positions, NativeUnavailable (a
    RuntimeError) where there is no C++ compiler: see `accelerate`.
    """

    def __init__(self, model: Decoder, threads: int | None = None):
        native.check(model.config)
        self.model, self.config = model, model.config
        self.threads = _threads() if threads is None else check_count("threads", threads)
        vectors = {}
        for name in vector_names(model.config):
            vectors[name] = _vector(model.get_parameter(name))
        self._linear = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, QuantizedLinear))}
        self._matrices = {name: _matrix(layer) for name, layer in self._linear.items()}
        self._embedding = _table(model.embedding.token.weight)
        self._decoder = native.NativeDecoder(model.config, self._embedding, self._matrices, vectors, self.threads)
        self._head = self._matrices.get("head", self._embedding)
        self._prompt_model = prompt_model(model, self._matrices, self.threads)

    def __call__(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """Tokens (B, T) to logits (B, T, V), as the model's call."""
        return self.logits(self.hidden(tokens, valid, token_types, record, cache))

    def hidden(self, tokens, valid=None, token_types=None, record=None, cache=None):
        """The hidden states (B, T, D) that the head turns into logits, as the model's `hidden`."""
        tokens, valid = as_tokens(self.model, tokens, valid)
        ours = type(cache) is KVCache and self._decoder.takes(tokens.numel())
        if not ours or token_types is not None or record is not None:
            model = self.model if torch.is_grad_enabled() else self._prompt_model
            return model.hidden(tokens, valid, token_types, record, cache)
        next_positions(self.model, tokens, valid, cache, record)  # raises where the tokens do not fit
        hidden = self._decoder.step(tokens.numpy(), cache.lengths.numpy(), self._places(cache))
        cache.advance(tokens.shape[1] if valid is None else valid.sum(dim=1))
        return torch.from_numpy(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden states (..., D) to logits (..., V)."""
        rows = hidden.numel() // self.config.d_model
        if rows > native.MAX_ROWS and self._head.format in native.FORMATS[:3]:
            return self.model.logits(hidden.to(self.model.embedding.token.weight.dtype))
        logits = self._head_of(hidden.detach().float().numpy().reshape(rows, self.config.d_model))
        return torch.from_numpy(logits).reshape(*hidden.shape[:-1], -1)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray, cache: KVCache) -> np.ndarray:
        """One more token of each row, an array (B,), into the cache; the logits (B, V) after it, a float32 array.

        It is `decode` without tensors. Nothing of the framework runs between the kernels: they empty the processor's
        caches of its code, and each first call of a function would wait for the memory. Raises as `decode` does.
        """
        tokens = np.asarray(tokens)
        if type(cache) is not KVCache or not self._decoder.takes(tokens.size):
            check_decode(tokens.shape, cache.batch_size, int(cache.lengths.min()))
            return self(tokens[:, None], cache=cache)[:, -1].float().numpy()
        filled = cache.lengths.numpy()
        check_step(self.config, cache, tokens, filled)
        hidden = self._decoder.step(tokens[:, None], filled, self._places(cache))
        cache.advance(1)
        return self._head_of(hidden[:, 0])

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache that the kernels can use, in the type of the weights."""
        weight = self.model.embedding.token.weight
        return KVCache(self.config, batch_size, max_length, weight.dtype)

    def _head_of(self, hidden):
        return native.multiply(self._head, hidden * np.float32(self.config.logit_scale), self.threads)

    def _places(self, cache):
        # Looked up in every step, which takes microseconds: whoever reorders a cache puts other tensors into it, and a
        # cache that was dropped leaves its addresses to the next one, which may have other sizes.
        dtype = str(cache.keys[0].dtype).removeprefix("torch.")
        return native.NativeCache.of(
            self.config, cache.batch_size, cache.keys, cache.values, torch.Tensor.data_ptr, dtype
        )


def accelerate(model: Decoder, threads: int | None = None) -> FastDecoder:
    """The `FastDecoder` of a decoder. threads: as many as the framework uses, unless told.

    The C++ is compiled on the first use on a machine, in about 5 seconds.
    Raises RuntimeError that names what to install where there is no C++ compiler; the model itself works without one.
    """
    return FastDecoder(model, threads)


def _threads():
    return torch.get_num_threads()


def _vector(tensor):
    return tensor.detach().float().numpy()


def _matrix(layer):
    bias = None if layer.bias is None else np.ascontiguousarray(_vector(layer.bias))
    if isinstance(layer, QuantizedLinear):
        return _packed(layer, bias)
    table = _table(layer.weight)
    return native.Matrix(table.address, table.format, table.d_in, table.d_out, bias=bias, owner=layer.weight)


def _packed(layer, bias):
    how = layer.quantization
    form = f"int{how.weight_bits}" + (" a8" if how.activation_bits else "")
    places = layer.packed.ctypes.data, layer.scale.ctypes.data
    return native.Matrix(places[0], form, layer.d_in, layer.d_out, places[1], how.group_size or 0, bias, layer)


def _table(weight):
    if weight.device.type != "cpu" or not weight.is_contiguous():
        raise ValueError(f"the fast decoder reads contiguous weights in main memory, got one on {weight.device}")
    name = str(weight.dtype).removeprefix("torch.")
    d_out, d_in = weight.shape
    return native.Matrix(weight.data_ptr(), f"{name} rows", d_in, d_out, owner=weight)
