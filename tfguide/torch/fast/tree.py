"""How a fast decoder reads a prompt: by a second tree of modules with the same parameters, whose leaves are kernels.

Norms, activations and rotations take one pass over memory each. float32 products use oneDNN where it is faster.
Layers with weights that are quantised, or in blocks, multiply packed weights. A call does not change the tree, so
threads may share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tfguide import native
from tfguide.torch.attention import MultiHeadAttention
from tfguide.torch.experts import Router
from tfguide.torch.feedforward import FeedForward
from tfguide.torch.gguf import BlockLinear, BlockStack
from tfguide.torch.latent import MultiHeadLatentAttention
from tfguide.torch.linear import left_out
from tfguide.torch.models import Decoder, empty_model
from tfguide.torch.modified import ModifiedAttention
from tfguide.torch.norms import LayerNorm, RMSNorm
from tfguide.torch.quantized import QuantizedLinear, QuantizedStack
from tfguide.torch.tensors import to_float32

TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
MANY_ROWS = 32  # from this many rows, with 32-bit activations, unpacking the weights for PyTorch's product is faster


def prompt_tree(model: Decoder, matrices: Mapping[str, native.Matrix], threads: int) -> Decoder:
    """A model with the parameters and results of `model` but faster leaves, which record no gradients.

    matrices: those of the linear layers, by their names in the model. `model` is not changed.
    """
    tree = empty_model(model.config, model.dtype_name).train(model.training)
    tree.quantization = model.quantization
    stacks: list[str] = []
    for name, module in model.named_modules():  # a parent comes before its children
        if name.startswith(tuple(stacks)):
            continue
        if isinstance(module, (QuantizedStack, BlockStack)):
            stacks.append(f"{name}.")
            leaf = PackedStack([own for key, own in matrices.items() if key.rpartition(".")[0] == name], threads)
        else:
            leaf = _leaf(module, matrices.get(name), threads)
        if leaf is not None:
            parent, _, own = name.rpartition(".")
            setattr(tree.get_submodule(parent), own, leaf)
    return tree


def faster_product():
    """oneDNN's float32 product if PyTorch would otherwise use MKL's slower one, else None.

    On AMD's processors MKL leaves half of the vector units unused: on two cores with AVX-512, 205 GFLOP/s against 460.
    """
    if native.processor_vendor() != "AuthenticAMD" or not torch.backends.mkldnn.is_available():
        return None
    try:
        return torch.ops.mkldnn._linear_pointwise  # torch.compile calls it, though it is not a public function
    except AttributeError:
        return None


class FastRotation(MultiHeadAttention):
    """Attention whose kernel rotates queries and keys in place, in the projections of the call."""

    def rotated(self, heads, rotation):
        """Queries or keys (B, T, H, d) rotated by the angles of their positions; unchanged if `rotation` is None."""
        B, T, H, d = heads.shape
        if rotation is None or rotation[0].shape[0] not in (1, B):
            return super().rotated(heads, rotation)
        heads = heads.contiguous()
        cos, sin = (angles.expand(B, -1, -1).reshape(B * T, angles.shape[-1]).numpy() for angles in rotation)
        place = heads.data_ptr()
        native.rotate(place, place, B * T, H * d, TYPES[heads.dtype], cos, sin, self._threads, d)
        return heads


class FastAttention(FastRotation):
    """`MultiHeadAttention` with this rotation. Its projections have no weights until `prompt_tree` replaces them."""

    def __init__(self, attention: MultiHeadAttention, threads: int):
        with left_out():
            super().__init__(
                attention.d_model, attention.n_heads, attention.n_kv_heads, attention.d_head, scale=attention.scale,
                attention=attention.attention,
            )  # fmt: skip
        self._threads = threads


class FastModifiedAttention(FastRotation, ModifiedAttention):
    """`ModifiedAttention` with this rotation. Its layers have no weights until `prompt_tree` replaces them."""

    def __init__(self, attention: ModifiedAttention, threads: int):
        norm_eps = None if attention.query_norm is None else attention.query_norm.eps
        with left_out():
            super().__init__(
                attention.d_model, attention.n_heads, attention.n_kv_heads, attention.d_head, scale=attention.scale,
                norm_eps=norm_eps, cap=attention.cap,
            )  # fmt: skip
        self._threads, self.sinks = threads, attention.sinks


class FastLatentAttention(MultiHeadLatentAttention):
    """`MultiHeadLatentAttention` whose absorbed matrix is that of the model: leaves with kernels only multiply.

    Its layers have no weights until `prompt_tree` replaces them.
    """

    def __init__(self, attention: MultiHeadLatentAttention):
        with left_out():
            super().__init__(
                attention.d_model, attention.n_heads, attention.latent, scale=attention.scale,
                attention=attention.attention,
            )  # fmt: skip
        self._up_of_model = attention.up_by_head

    def up_by_head(self, dtype):
        """The matrix of `key_value_up` as (R, H, d_nope + d_v), in this type."""
        return self._up_of_model(dtype)


class FastFeedForward(FeedForward):
    """`FeedForward` whose activation is one pass, in place in the projections of the call."""

    def __init__(self, network: FeedForward, threads: int):
        with left_out():
            super().__init__(network.d_model, 1, network.activation, wide=network.wide)
        self._threads = threads

    def activated(self, up, gate=None):
        """The non-linearity of this network, applied to `up` and, if gated, the gate, each (B, T, F)."""
        up = up.contiguous()
        gate = None if gate is None else gate.contiguous()
        width = up.shape[-1]
        places = up.data_ptr(), None if gate is None else gate.data_ptr(), up.data_ptr()
        native.activate(self.activation, *places, up.numel() // width, width, TYPES[up.dtype], self._threads)
        return up


class FastNorm(nn.Module):
    """A `LayerNorm` or `RMSNorm` as one pass, with its parameters."""

    def __init__(self, norm: LayerNorm | RMSNorm, threads: int):
        super().__init__()
        self.weight, self.eps, self._threads = norm.weight, norm.eps, threads
        self.is_rms = isinstance(norm, RMSNorm)
        self.bias = None if self.is_rms else norm.bias
        self._arrays = tuple(None if x is None else to_float32(x) for x in (self.weight, self.bias))

    def forward(self, x):
        """x: (..., D) to the same shape."""
        x, y = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        rows = x.numel() // len(self.weight)
        native.normalise(
            x.data_ptr(), y.data_ptr(), rows, TYPES[x.dtype], *self._arrays, self.eps, self.is_rms, self._threads
        )
        return y


class FastLinear(nn.Module):
    """A linear layer that multiplies in float32, by `faster_product` where there is one, with its parameters.

    PyTorch's own product of float16 on a CPU takes four times as long as one that converts the weights in every call,
    as weights in blocks are dequantised.
    """

    def __init__(self, layer: nn.Linear | BlockLinear):
        super().__init__()
        self.layer, self._product = layer, faster_product()

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        weight, bias = (
            None if part is None else part.detach().float() for part in (self.layer.weight, self.layer.bias)
        )
        rows = x.float()
        if self._product is None:
            return nn.functional.linear(rows, weight, bias).to(x.dtype)
        return self._product(rows, weight, bias, "none", [], "").to(x.dtype)


class PackedLinear(nn.Module):
    """A quantised layer whose product is a kernel. The result for a row does not depend on the other rows.

    With 8-bit activations the kernels multiply integers, for any number of rows. Otherwise they multiply few rows; for
    many, the weights are unpacked into float32, and PyTorch's product differs by the order of its sums.
    """

    def __init__(self, layer: QuantizedLinear, matrix: native.Matrix, threads: int):
        super().__init__()
        self.d_in, self.d_out, self.matrix, self._threads = layer.d_in, layer.d_out, matrix, threads
        self.register_buffer("bias", layer.bias)
        self._rounds = layer.quantization.activation_bits is not None
        by_channel = layer.quantization.weight_bits == 8
        self._scale = torch.from_numpy(np.asarray(layer.scale).reshape(-1)[: layer.d_out]) if by_channel else None

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        rows = x.reshape(-1, self.d_in).float()
        if self._rounds or len(rows) < MANY_ROWS:
            y = torch.from_numpy(native.multiply(self.matrix, rows.numpy(), self._threads))
        else:
            y = self._by_framework(rows)
        return y.reshape(*x.shape[:-1], -1).to(x.dtype)

    def _by_framework(self, rows: Tensor) -> Tensor:
        weight = torch.empty(self.d_in, self.d_out)
        native.unpack(self.matrix, weight.data_ptr(), "float32", self._threads)
        y = rows @ weight
        y = y if self._scale is None else y * self._scale
        return y if self.bias is None else y + self.bias


class KernelLinear(nn.Module):
    """A layer in blocks of a GGUF file whose product is a kernel, with 8-bit activations.

    The result for a row does not depend on the other rows.
    """

    def __init__(self, matrix: native.Matrix, threads: int):
        super().__init__()
        self.matrix, self._threads = matrix, threads

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        rows = x.detach().reshape(-1, self.matrix.d_in).float().numpy()
        y = torch.from_numpy(native.multiply(self.matrix, rows, self._threads))
        return y.reshape(*x.shape[:-1], -1).to(x.dtype)


class PackedStack(nn.Module):
    """The layers of experts, quantised or in blocks of a GGUF file, whose products are kernels.

    matrices: one for each expert, with its bias.
    """

    def __init__(self, matrices: Sequence[native.Matrix], threads: int):
        super().__init__()
        self.matrices, self._threads = matrices, threads

    def forward(self, x, expert):
        """x: (N, in) to (N, out) by one expert."""
        rows = x.detach().float().contiguous().numpy()
        return torch.from_numpy(native.multiply(self.matrices[expert], rows, self._threads)).to(x.dtype)


def _leaf(module, matrix, threads):
    """The replacement of a module: one with kernels, or the module itself; None if its children are replaced."""
    if isinstance(module, Router):
        return module
    if isinstance(module, ModifiedAttention):
        return FastModifiedAttention(module, threads)
    if isinstance(module, MultiHeadAttention):
        return FastAttention(module, threads)
    if isinstance(module, MultiHeadLatentAttention):
        return FastLatentAttention(module)
    if isinstance(module, FeedForward):
        return FastFeedForward(module, threads)
    if isinstance(module, (LayerNorm, RMSNorm)):
        return FastNorm(module, threads)
    if isinstance(module, QuantizedLinear):
        return PackedLinear(module, matrix, threads)
    if isinstance(module, BlockLinear):
        return KernelLinear(matrix, threads) if matrix.format.endswith("a8") else FastLinear(module)
    if isinstance(module, nn.Linear) and _is_slow(module.weight):
        return FastLinear(module)
    return module if not list(module.children()) else None


def _is_slow(weight):
    """Whether PyTorch's own product with a weight is slower than `FastLinear`."""
    if weight.dtype == torch.float32:
        return faster_product() is not None
    return weight.dtype == torch.float16 and weight.device.type == "cpu"
