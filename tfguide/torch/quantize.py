"""Quantised models: the same Transformer with linear layers of 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from tfguide.checkpoints.quantized import pack_weights, quantized_weights
from tfguide.compress import ACTIVATION_BLOCK, Quantization, dequantize
from tfguide.config import ModelConfig
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder, empty_model


class QuantizedLinear(nn.Module):
    """A linear layer with packed weights of 8 or 4 bits: `x @ dequantised weight + bias`, (..., in) to (..., out).

    packed, scale: as `tfguide.compress.packing` lays them out; bias: (out,) or None. With 8-bit activations the input
    is rounded in blocks of 32 first. This is the readable path, which makes the weight anew in every call; the fast
    decoder multiplies by the packed weight itself.
    """

    def __init__(self, d_in: int, d_out: int, quantization: Quantization, packed, scale, bias=None):
        super().__init__()
        self.d_in, self.d_out, self.quantization = d_in, d_out, quantization
        self.packed, self.scale = np.ascontiguousarray(packed), np.ascontiguousarray(scale)
        self.register_buffer("bias", None if bias is None else torch.tensor(bias, dtype=torch.float32))

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        rows = round_activations(x) if self.quantization.activation_bits else x
        y = rows.float() @ self.weight.T
        return (y if self.bias is None else y + self.bias).to(x.dtype)

    @property
    def weight(self) -> Tensor:
        """The weight that the packed one stands for, made anew: float32, (out, in) as in nn.Linear."""
        return torch.from_numpy(dequantize(self.packed, self.scale, self.d_out, self.d_in).T)


def round_activations(x: Tensor) -> Tensor:
    """Activations (..., in) rounded to 8 bits in blocks of 32 inputs, and back to their own type."""
    fill = -x.shape[-1] % ACTIVATION_BLOCK
    blocks = nn.functional.pad(x.float(), (0, fill)).unflatten(-1, (-1, ACTIVATION_BLOCK))
    scale = blocks.abs().amax(dim=-1, keepdim=True) / 127
    rounded = torch.round(blocks / scale.masked_fill(scale == 0, 1)) * scale
    return rounded.flatten(-2)[..., : x.shape[-1]].to(x.dtype)


def quantize(
    model: Encoder | Decoder | EncoderDecoder,
    weight_bits: int = 8,
    activation_bits: int | None = None,
    group_size: int = 32,
) -> Encoder | Decoder | EncoderDecoder:
    """A copy of a model whose linear layers have weights of 8 or 4 bits; `model.quantization` says how.

    8 bits: a scale for each output. 4 bits: two weights to a byte, a scale for each `group_size` inputs of an output.
    activation_bits: 8 rounds what the layers read, in blocks of 32; None leaves it. Embeddings and norms stay as they
    are; a tied head gets a quantised copy of its own. The model itself is not changed.

    Raises ValueError for a model that is quantised already, other numbers of bits, a group size that does not divide
    the inputs of a layer, or weights that are NaN or infinite.
    """
    if model.quantization is not None:
        raise ValueError(f"the model is quantised already: {model.quantization}")
    quantization = Quantization(weight_bits, activation_bits, group_size)
    arrays = pack_weights(model.config, quantization, lambda name: _array(model, name))
    dtype = str(model.embedding.token.weight.dtype).removeprefix("torch.")
    return from_quantized(model.config, quantization, arrays, dtype)


def from_quantized(
    config: ModelConfig, quantization: Quantization, arrays: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The quantised model of arrays by name: see `tfguide.checkpoints.quantized.quantized_shapes`."""
    model = empty_model(config)
    model.quantization = quantization
    for name, weight in quantized_weights(config).items():
        path, attribute = name.rsplit(".", 1)
        if weight.is_matrix:
            packed, scale, bias = arrays[f"{path}.packed"], arrays[f"{path}.scale"], arrays.get(f"{path}.bias")
            layer = QuantizedLinear(*weight.shape, quantization, packed, scale, bias)
            parent, _, own = path.rpartition(".")
            setattr(model.get_submodule(parent), own, layer)
        elif not isinstance(model.get_submodule(path), QuantizedLinear):  # whose bias it has
            tensor = torch.tensor(arrays[name], dtype=getattr(torch, dtype))
            setattr(model.get_submodule(path), attribute, nn.Parameter(tensor, requires_grad=False))
    return model.eval()


def to_quantized(model: Encoder | Decoder | EncoderDecoder) -> dict[str, np.ndarray]:
    """The arrays of a quantised model by name: what `from_quantized` took."""
    arrays = {}
    for name, weight in quantized_weights(model.config).items():
        layer = model.get_submodule(name.rpartition(".")[0])
        if weight.is_matrix:
            path = name.removesuffix(".weight")
            arrays[f"{path}.packed"], arrays[f"{path}.scale"] = layer.packed, layer.scale
        else:
            arrays[name] = _array(model, name)
    return arrays


def _array(model, name):
    """A weight as the canonical dictionary has it, float32: (in, out) of a linear layer."""
    path, attribute = name.rsplit(".", 1)
    if name == "head.weight" and model.config.tied_head:
        return model.embedding.token.weight.detach().float().numpy().T
    layer = model.get_submodule(path)
    array = getattr(layer, attribute).detach().float().numpy()
    return array.T if isinstance(layer, nn.Linear) else array
