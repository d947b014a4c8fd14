"""How a fast decoder reads a prompt: the model itself, with kernels in place of what it does between its products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from tfguide import native
from tfguide.torch.feedforward import FeedForward
from tfguide.torch.layers import LayerNorm, RMSNorm
from tfguide.torch.models import Decoder
from tfguide.torch.positions import rotate
from tfguide.torch.quantize import QuantizedLinear

TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
MANY_ROWS = 32  # from here on it pays to unpack quantised weights and let PyTorch multiply


def faster_product():
    """oneDNN's product in float32 where PyTorch would take a slower one of MKL; None elsewhere.

    On AMD's processors MKL leaves half of the vector units unused: on two cores with AVX-512, 205 GFLOP/s against 460.
    """
    if native.processor_vendor() != "AuthenticAMD" or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what torch.compile calls, so with no promise


class PromptKernels:
    """The kernels for one model: `with kernels.in_place(): model(...)` computes with them.

    Norms, activations and rotations take one pass over memory each. Quantised layers multiply few rows by their packed
    weights; for many, the weights are unpacked, in bfloat16 where the processor multiplies it, and the activations
    take that type in place of 8 bits. Products in float32 are those of oneDNN where they are faster.
    """

    def __init__(self, model: Decoder, matrices: Mapping[str, native.Matrix], threads: int):
        self.threads = threads
        self._room = None  # for unpacked weights, of one matrix after the other
        self._swaps = []  # (object, attribute, what stands there meanwhile)
        for name, module in model.named_modules():
            if isinstance(module, (LayerNorm, RMSNorm)):
                self._swaps.append((module, "forward", self._norm(module)))
            elif isinstance(module, FeedForward):
                self._swaps.append((module, "activate", self._activate))
            elif hasattr(module, "rotate"):
                self._swaps.append((module, "rotate", self._rotate))
            elif isinstance(module, nn.Linear) and module.weight.dtype == torch.float32 and faster_product():
                self._swaps.append((module, "forward", self._linear(module)))
            elif isinstance(module, QuantizedLinear):
                self._swaps.append((module, "product", self._product(module, matrices[name])))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts, the model's parts compute by the kernels; with gradients, nothing changes."""
        swaps = [] if torch.is_grad_enabled() else self._swaps
        for owner, name, kernel in swaps:
            owner.__dict__[name] = kernel  # an object's own attribute goes before its class's
        try:
            yield
        finally:
            for owner, name, _ in swaps:
                owner.__dict__.pop(name, None)
            self._room = None

    def _norm(self, norm):
        weight = norm.weight.detach().float().numpy()
        bias = None if getattr(norm, "bias", None) is None else norm.bias.detach().float().numpy()
        is_rms = isinstance(norm, RMSNorm)

        def forward(x):
            x, y = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
            rows = x.numel() // len(weight)
            places = x.data_ptr(), y.data_ptr()
            native.normalise(*places, rows, TYPES[x.dtype], weight, bias, norm.eps, is_rms, self.threads)
            return y

        return forward

    def _activate(self, activation, up, gate=None):
        up = up.contiguous()
        gate = None if gate is None else gate.contiguous()
        width = up.shape[-1]
        places = up.data_ptr(), None if gate is None else gate.data_ptr(), up.data_ptr()  # into the place of `up`
        native.activate(activation, *places, up.numel() // width, width, TYPES[up.dtype], self.threads)
        return up

    def _rotate(self, x, cos, sin):
        B, T, H, d = x.shape
        if cos.shape[0] not in (1, B):
            return rotate(x, cos, sin)
        x = x.contiguous()
        cos, sin = (angles.expand(B, -1, -1).reshape(B * T, d // 2).numpy() for angles in (cos, sin))
        native.rotate(x.data_ptr(), x.data_ptr(), B * T, H * d, TYPES[x.dtype], cos, sin, self.threads)
        return x

    def _linear(self, layer):
        product, weight, bias = faster_product(), layer.weight.detach(), layer.bias

        def forward(x):
            return product(x, weight, bias, "none", [], "")

        return forward

    def _unpacked(self, dtype, d_in, d_out):
        # Memory that is asked for again and again is cleared by the system again and again.
        if self._room is None or len(self._room) < d_in * d_out:
            self._room = torch.empty(d_in * d_out, dtype=dtype)
        return self._room[: d_in * d_out].view(d_in, d_out)

    def _product(self, layer, matrix):
        dtype = getattr(torch, native.product_type())
        by_channel = layer.quantization.weight_bits == 8
        scale = torch.from_numpy(np.asarray(layer.scale).reshape(-1)[: layer.d_out]) if by_channel else None

        def product(x):
            rows = x.reshape(-1, layer.d_in)
            if len(rows) < MANY_ROWS:
                y = torch.from_numpy(native.multiply(matrix, rows.float().numpy(), self.threads))
                return y.reshape(*x.shape[:-1], -1).to(x.dtype)
            weight = self._unpacked(dtype, layer.d_in, layer.d_out)
            native.unpack(matrix, weight.data_ptr(), TYPES[dtype], self.threads)
            y = (rows.to(dtype) @ weight).float()
            if by_channel:
                y *= scale
            if layer.bias is not None:
                y += layer.bias
            return y.reshape(*x.shape[:-1], -1).to(x.dtype)

        return product
