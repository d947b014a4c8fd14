"""Quantised models: the same Transformer with linear layers of 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from tfguide.checkpoints.quantized import is_linear, pack_weights, quantized_weights
from tfguide.compress import Quantization
from tfguide.config import ModelConfig
from tfguide.torch.linear import QuantizedLinear
from tfguide.torch.models import Decoder, Encoder, EncoderDecoder, empty_model


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
    arrays = pack_weights(model.config, quantization, model.weight_of)
    return from_quantized(model.config, quantization, arrays, model.dtype_name)


def from_quantized(
    config: ModelConfig, quantization: Quantization, arrays: Mapping[str, np.ndarray], dtype: str = "float32"
) -> Encoder | Decoder | EncoderDecoder:
    """The quantised model of arrays by name: see `tfguide.checkpoints.quantized.quantized_shapes`."""
    model = empty_model(config)
    model.quantization = quantization
    for name, shape in quantized_weights(config).items():
        path, attribute = name.rsplit(".", 1)
        if is_linear(name):
            bias = arrays.get(f"{path}.bias")
            layer = QuantizedLinear(*shape, quantization, arrays[f"{path}.packed"], arrays[f"{path}.scale"], bias)
            parent, _, own = path.rpartition(".")
            setattr(model.get_submodule(parent), own, layer)
        elif not isinstance(model.get_submodule(path), QuantizedLinear):  # whose bias it has
            tensor = torch.tensor(arrays[name], dtype=getattr(torch, dtype))
            setattr(model.get_submodule(path), attribute, nn.Parameter(tensor, requires_grad=False))
    return model.eval()


def to_quantized(model: Encoder | Decoder | EncoderDecoder) -> dict[str, np.ndarray]:
    """The arrays of a quantised model by name: what `from_quantized` took."""
    arrays = {}
    for name in quantized_weights(model.config):
        layer = model.get_submodule(name.rpartition(".")[0])
        if is_linear(name):
            path = name.removesuffix(".weight")
            arrays[f"{path}.packed"], arrays[f"{path}.scale"] = layer.packed, layer.scale
        else:
            arrays[name] = model.weight_of(name)
    return arrays
