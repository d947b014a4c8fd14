"""What every model has besides its forward pass: methods that read and set its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import nn

from tfguide.checkpoints import Blocks
from tfguide.compress import Quantization, weighted
from tfguide.compress.quantized import array_names, quantized_weights
from tfguide.config import ModelConfig
from tfguide.torch.gguf import BlockEmbedding, BlockLinear, BlockStack
from tfguide.torch.linear import left_out
from tfguide.torch.quantized import QuantizedLinear, QuantizedStack
from tfguide.torch.tensors import to_float32
from tfguide.weights import check_dtype, check_weights, stays_float32, weight_shapes, weight_table


class Weighted(weighted.Weighted):
    """A PyTorch model's weights: `config`, `quantization`, `dtype`, `device`, and the canonical dictionary."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and the activations; blocks are dequantised to float32."""
        if self.config.d_input is not None:
            return self.encoder.layers[0].self_attention_norm.weight.dtype
        token = self.embedding.token
        return torch.float32 if isinstance(token, BlockEmbedding) else token.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype_name(self) -> str:
        """The type of the weights and the activations, by the name that both frameworks use."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def block_types(self) -> dict[str, str]:
        """The types of the weights that stay in blocks of a GGUF file, such as "Q4_1", by canonical name."""
        layers = {name: self.get_submodule(name.rpartition(".")[0]) for name in weight_shapes(self.config)}
        return {
            name: layer.blocks.block_type
            for name, layer in layers.items()
            if isinstance(layer, (BlockLinear, BlockStack, BlockEmbedding)) and name.endswith(".weight")
        }

    def weight_of(self, name: str) -> np.ndarray:
        """One weight of the canonical dictionary, float32; the matrix of a tied head is "head.weight"."""
        if name == "head.weight" and self.config.tied_head:
            return to_float32(self.embedding.token.weight).T
        path, attribute = name.rsplit(".", 1)
        array = to_float32(getattr(self.get_submodule(path), attribute))
        return array.swapaxes(-2, -1) if weight_table(self.config)[name].is_matrix else array  # here (out, in)

    def packed_of(self, path: str) -> tuple[np.ndarray, ...]:
        """The arrays of a quantised linear layer, as `Quantization.parts` names them."""
        return self.get_submodule(path).arrays

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Self:
        """A model of this framework and type with another configuration and other weights. Raises as `from_weights`."""
        check_weights(config, weights)
        check_dtype(self.dtype_name)
        return self._empty(config).fill(weights)

    def with_quantized(self, quantization: Quantization, arrays: Mapping[str, np.ndarray]) -> Self:
        """A quantised model of this framework, type and configuration, with the arrays of `to_quantized`."""
        return self._empty(self.config).fill_quantized(quantization, arrays)

    def fill(self, weights: Mapping[str, np.ndarray]) -> Self:
        """Copy the weights of a checked dictionary into the model and return it, ready for inference."""
        dtype = self.dtype_name
        for name in weight_shapes(self.config):
            path, attribute = name.rsplit(".", 1)
            is_matrix = weight_table(self.config)[name].is_matrix
            layer = self.get_submodule(path)
            array = weights[name].swapaxes(-2, -1) if is_matrix else weights[name]  # nn.Linear keeps (out, in)
            kept = torch.float32 if stays_float32(self.config, name, dtype) else getattr(torch, dtype)
            tensor = torch.empty(array.shape)  # PyTorch's memory begins at a cache line, NumPy's may not
            np.copyto(tensor.numpy(), array)
            setattr(layer, attribute, nn.Parameter(tensor.to(kept)))
        return self.eval()

    def fill_quantized(self, quantization: Quantization, arrays: Mapping[str, np.ndarray]) -> Self:
        """Set packed matrices, and other weights in the type of the layers; return the model, ready for inference."""
        self.quantization, dtype = quantization, self.dtype
        for name, weight in quantized_weights(self.config).items():
            path, attribute = name.rsplit(".", 1)
            if weight.is_compressed:
                packed, scale, *unit = (arrays[own] for own in array_names(path, quantization))
                kind = QuantizedStack if weight.is_routed else QuantizedLinear
                layer = kind(*self.shape_of(weight), quantization, packed, scale, arrays.get(f"{path}.bias"), *unit)
                parent, _, own = path.rpartition(".")
                setattr(self.get_submodule(parent), own, layer)
            elif not isinstance(self.get_submodule(path), (QuantizedLinear, QuantizedStack)):  # which hold their bias
                array = arrays[name].swapaxes(-2, -1) if weight.is_matrix else arrays[name]
                kept = torch.float32 if stays_float32(self.config, name, self.dtype_name) else dtype
                tensor = torch.tensor(array, dtype=kept)
                setattr(self.get_submodule(path), attribute, nn.Parameter(tensor, requires_grad=False))
        return self.eval()

    def fill_blocks(self, arrays: Mapping[str, Blocks | np.ndarray]) -> Self:
        """Set weights that stay in blocks, and others in float32; return the model, ready for inference."""
        for name, array in arrays.items():
            path, attribute = name.rsplit(".", 1)
            parent, _, own = path.rpartition(".")
            weight = weight_table(self.config)[name]
            if isinstance(array, Blocks) and weight.role != "router":
                kind = BlockStack if weight.is_routed else BlockLinear
                layer = kind(array, arrays.get(f"{path}.bias")) if weight.is_matrix else BlockEmbedding(array)
                setattr(self.get_submodule(parent), own, layer)
            elif not isinstance(self.get_submodule(path), (BlockLinear, BlockStack)):  # which hold their bias
                array = array.dequantised() if isinstance(array, Blocks) else array
                tensor = torch.tensor(array, dtype=torch.float32)
                setattr(self.get_submodule(path), attribute, nn.Parameter(tensor, requires_grad=False))
        return self.eval()

    def _empty(self, config):
        with left_out():
            return type(self)(config).to(self.dtype)
