"""The fast path of decoding: the C++ kernels of `tfguide.native` read a model's weights in place."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from tfguide import native
from tfguide.checkpoints import Blocks
from tfguide.checks.values import check_count
from tfguide.torch.experts import Router, StackedLinear
from tfguide.torch.fast.tree import prompt_tree
from tfguide.torch.gguf import BlockEmbedding, BlockLinear, BlockStack
from tfguide.torch.inputs import count_tokens, extend
from tfguide.torch.models import Decoder
from tfguide.torch.quantized import QuantizedLinear, QuantizedStack
from tfguide.torch.tensors import to_float32
from tfguide.torch.verbs import Generator
from tfguide.weights import vector_names


class FastDecoder(native.NativeGenerator, Generator):
    """A faster replacement for a model: the same arguments and the same results.

    The C++ kernels compute calls of up to 64 new tokens with a cache of `new_cache`, and prompts of any length if
    activations have 8 bits. They compute in float32 for every type of weights and of cache; but with bfloat16 weights
    and more than 4 tokens they round the inputs of products to bfloat16, where the processor multiplies that. The
    framework computes more tokens, caches of 4 bits and of other kinds, and attention maps, with kernels for some of
    its layers (see tree.py). The weights are shared with the model, not copied, so the model must not change. Threads
    may share a fast decoder if each has its own cache.

    With 8-bit activations the result for a row is the same to the last bit, whatever the other rows hold and however a
    prompt is split into chunks of 8 tokens or more. Fewer new tokens attend in another order of sums, and are the same
    among themselves. Otherwise the number of tokens in a call decides which code computes, and a row may be
    rounded differently in a batch than alone: with float32 activations by the order of sums, about 1e-6 of the largest
    logit; with activations in bfloat16 or float16, or a cache of a smaller type, by a few roundings to that type. Two
    logits closer than that may swap ranks.

    Raises ValueError for a model that is not decoder-only or has relative positions, NativeUnavailable (a RuntimeError)
    if there is no C++ compiler: see `accelerate`.
    """

    def __init__(self, model: Decoder, threads: int | None = None):
        native.check(model.config)
        threads = _threads() if threads is None else check_count("threads", threads)
        vectors = {name: model.weight_of(name) for name in vector_names(model.config)}
        matrices = dict(_matrices(model, threads))
        embedding = _table(model.embedding.token, threads)
        super().__init__(model.config, embedding, matrices, vectors, threads)
        self.model, self.quantization, self.dtype, self.device = model, model.quantization, model.dtype, model.device
        self.has_small_weights, self._in_blocks = model.has_small_weights, bool(model.block_types)
        self._prompt_tree = prompt_tree(model, matrices, threads)

    def read(self, tokens, cache=None, valid=None, token_types=None, record=None):
        """`hidden` of tensors that have been checked: the tokens follow those in the cache, and are added to it."""
        if token_types is not None or record is not None or not self.reads(cache, tokens.numel()):
            return self._by_layers().read(tokens, cache, valid, token_types, record)
        extend(self, tokens, valid, cache, record)  # raises if the tokens do not fit
        if valid is not None and cache.ring is not None:
            return torch.from_numpy(self.run_valid(tokens.numpy(), valid.numpy(), cache))
        hidden = self.run_kernels(tokens.numpy(), cache)
        cache.advance(count_tokens(tokens, valid))
        return torch.from_numpy(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """The head: hidden states (..., D) to logits (..., V)."""
        rows = hidden.numel() // self.config.d_model
        rounds = self.head.format.endswith("a8")  # then the kernels are fast for any number of rows
        records = torch.is_grad_enabled() and hidden.requires_grad and not self._in_blocks
        if rows > native.HEAD_ROWS and (records or not rounds):
            return self._by_layers().logits(hidden if self.head.is_packed else hidden.to(self.dtype))
        logits = self.multiply_head(to_float32(hidden).reshape(rows, self.config.d_model))
        return torch.from_numpy(logits).reshape(*hidden.shape[:-1], -1)

    def _by_layers(self):
        """The model where gradients are recorded, which kernels and weights in blocks do not, else its prompt tree."""
        return self.model if torch.is_grad_enabled() and not self._in_blocks else self._prompt_tree


def accelerate(model: Decoder, threads: int | None = None) -> FastDecoder:
    """The `FastDecoder` of a decoder. threads: default: TFGUIDE_THREADS, or as many as the
    framework uses.

    The first use on a machine compiles the C++ in about 10 seconds. Raises RuntimeError that says what to install if
    there is no C++ compiler; the model itself works without one.
    """
    return FastDecoder(model, threads)


def _threads():
    return native.default_threads(torch.get_num_threads())


def _matrices(model, threads):
    """The matrices of the linear layers by their names in the model; those of expert e have ".e" behind the name."""
    stacks: list[str] = []
    for name, layer in model.named_modules():
        if name.startswith(tuple(stacks)):
            continue
        if isinstance(layer, (StackedLinear, QuantizedStack, BlockStack)):
            stacks.append(f"{name}.")
            biases = itertools.repeat(None) if layer.bias is None else to_float32(layer.bias)
            for e, (own, bias) in enumerate(zip(_parts(layer), biases, strict=False)):
                yield f"{name}.{e}", _matrix(own, threads, bias)
        elif isinstance(layer, (nn.Linear, QuantizedLinear, BlockLinear)) and not isinstance(layer, Router):
            yield name, _matrix(layer, threads, None if layer.bias is None else to_float32(layer.bias))


def _parts(stack):
    """The weight of each expert: a tensor (out, in), a layer, or blocks."""
    if isinstance(stack, QuantizedStack):
        return stack.layers
    if isinstance(stack, BlockStack):
        blocks = stack.blocks
        return [Blocks(blocks.block_type, blocks.shape[1:], rows) for rows in blocks.data]
    return stack.weight.detach()


def _matrix(layer, threads, bias):
    bias = None if bias is None else np.ascontiguousarray(bias)
    if isinstance(layer, QuantizedLinear):
        rounds = layer.quantization.activation_bits is not None
        return native.Matrix.of_packed(layer.packed, layer.scale, layer.d_in, layer.d_out, rounds, bias, layer.unit)
    if isinstance(layer, (BlockLinear, Blocks)):
        return native.matrix_of_blocks(layer.blocks if isinstance(layer, BlockLinear) else layer, bias, threads)
    return native.Matrix.of(layer if isinstance(layer, Tensor) else layer.weight, "rows", bias)


def _table(layer, threads):
    """The rows of an embedding."""
    if isinstance(layer, BlockEmbedding):
        return native.matrix_of_blocks(layer.blocks, threads=threads)
    return native.Matrix.of(layer.weight, "rows")
