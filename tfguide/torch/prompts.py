"""How a fast decoder reads a prompt: a second model over the same weights, whose small parts are kernels."""

from __future__ import annotations

import copy
from collections.abc import Mapping

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
MANY_ROWS = 32  # from here on it pays to unpack weights for activations of 32 bits, and let PyTorch multiply


def prompt_model(model: Decoder, matrices: Mapping[str, native.Matrix], threads: int) -> Decoder:
    """A model that computes what `model` does without gradients, with the same parameters and other parts around them.

    Norms, activations and rotations take one pass over memory each. Products in float32 are those of oneDNN where they
    are faster. Quantised layers multiply packed weights; see `_packed_product`. Nothing in it changes in a call, so
    threads may share it, and `model` stays as it was.
    """
    # The copy of a parameter is the parameter itself, and that of an array of packed weights the array.
    shared = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            shared += [module.packed, module.scale]
    twin = copy.deepcopy(model, {id(x): x for x in shared})
    for name, module in list(twin.named_modules()):
        if isinstance(module, FeedForward):
            module.activate = _activation(threads)
        elif hasattr(module, "rotate"):
            module.rotate = _rotation(threads)
        elif isinstance(module, (LayerNorm, RMSNorm)):
            module.forward = _norm(module, threads)
        elif isinstance(module, nn.Linear) and module.weight.dtype == torch.float32 and faster_product():
            module.forward = _linear(module)
        elif isinstance(module, QuantizedLinear):
            module.forward = _packed_product(module, matrices[name], threads)
    return twin


def faster_product():
    """oneDNN's product in float32 where PyTorch would take a slower one of MKL; None elsewhere.

    On AMD's processors MKL leaves half of the vector units unused: on two cores with AVX-512, 205 GFLOP/s against 460.
    """
    if native.processor_vendor() != "AuthenticAMD" or not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # what torch.compile calls, so with no promise


def _norm(norm, threads):
    weight = norm.weight.detach().float().numpy()
    bias = None if getattr(norm, "bias", None) is None else norm.bias.detach().float().numpy()
    is_rms = isinstance(norm, RMSNorm)

    def forward(x):
        x, y = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        places = x.data_ptr(), y.data_ptr()
        native.normalise(*places, x.numel() // len(weight), TYPES[x.dtype], weight, bias, norm.eps, is_rms, threads)
        return y

    return forward


def _activation(threads):
    def activate(activation, up, gate=None):
        up = up.contiguous()
        gate = None if gate is None else gate.contiguous()
        width = up.shape[-1]
        places = up.data_ptr(), None if gate is None else gate.data_ptr(), up.data_ptr()  # into the place of `up`
        native.activate(activation, *places, up.numel() // width, width, TYPES[up.dtype], threads)
        return up

    return activate


def _rotation(threads):
    def turn(x, cos, sin):
        B, T, H, d = x.shape
        if cos.shape[0] not in (1, B):
            return rotate(x, cos, sin)
        x = x.contiguous()
        cos, sin = (angles.expand(B, -1, -1).reshape(B * T, d // 2).numpy() for angles in (cos, sin))
        native.rotate(x.data_ptr(), x.data_ptr(), B * T, H * d, TYPES[x.dtype], cos, sin, threads)
        return x

    return turn


def _linear(layer):
    product, weight, bias = faster_product(), layer.weight.detach(), layer.bias

    def forward(x):
        return product(x, weight, bias, "none", [], "")

    return forward


def _packed_product(layer, matrix, threads):
    """The product of a quantised layer, whose result for a row does not depend on what other rows there are.

    8-bit activations: the kernels multiply integers, however many rows come. Others: they multiply few rows; for many
    the weights are unpacked into float32, and what PyTorch makes of them differs by the order of its sums.
    """
    rounds = layer.quantization.activation_bits is not None
    by_channel = layer.quantization.weight_bits == 8
    scale = torch.from_numpy(np.asarray(layer.scale).reshape(-1)[: layer.d_out]) if by_channel else None

    def forward(x):
        rows = x.reshape(-1, layer.d_in).float()
        if rounds or len(rows) < MANY_ROWS:
            y = torch.from_numpy(native.multiply(matrix, rows.numpy(), threads))
        else:
            weight = torch.empty(layer.d_in, layer.d_out)
            native.unpack(matrix, weight.data_ptr(), "float32", threads)
            y = rows @ weight
            y = y * scale if by_channel else y
            y = y if layer.bias is None else y + layer.bias
        return y.reshape(*x.shape[:-1], -1).to(x.dtype)

    return forward
