"""What every model has beside its forward pass: where its weights are, and how they are taken out and put in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from tfguide.config import ModelConfig
from tfguide.torch.linear import QuantizedLinear, left_out
from tfguide.torch.tensors import to_float32
from tfguide.weights import check_dtype, check_weights, stays_float32, weight_shapes


class Weighted:
    """A model by its weights: `config`, `dtype`, `device`, and the canonical dictionary."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights and the activations."""
        return self.embedding.token.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.token.weight.device

    @property
    def dtype_name(self) -> str:
        """The type of the weights and the activations, by the name that both frameworks use."""
        return str(self.dtype).removeprefix("torch.")

    def to_weights(self) -> dict[str, np.ndarray]:
        """The canonical dictionary of the weights, float32 copies: what `from_weights` took.

        Of a quantised model: what its weights stand for.
        """
        return {name: np.array(self.weight_of(name), order="C") for name in weight_shapes(self.config)}

    def weight_of(self, name: str) -> np.ndarray:
        """One weight as the canonical dictionary has it, float32; a tied head's matrix has a name as well."""
        if name == "head.weight" and self.config.tied_head:
            return to_float32(self.embedding.token.weight).T
        path, attribute = name.rsplit(".", 1)
        layer = self.get_submodule(path)
        array = to_float32(getattr(layer, attribute))
        is_matrix = attribute == "weight" and isinstance(layer, (nn.Linear, QuantizedLinear))
        return array.T if is_matrix else array  # PyTorch keeps (out, in)

    def with_weights(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> Weighted:
        """A model of this class and type with another configuration and other weights. Raises as `from_weights`."""
        check_weights(config, weights)
        check_dtype(self.dtype_name)
        with left_out():
            model = type(self)(config)
        return fill(model, weights, self.dtype_name)


def fill(model: nn.Module, weights: Mapping[str, np.ndarray], dtype: str) -> nn.Module:
    """Give a model that was built without weights those of a checked dictionary, copied; it is ready for inference."""
    for name in weight_shapes(model.config):
        path, attribute = name.rsplit(".", 1)
        layer = model.get_submodule(path)
        array = weights[name].T if isinstance(layer, nn.Linear) else weights[name]  # nn.Linear keeps (out, in)
        kept = torch.float32 if stays_float32(model.config, name, dtype) else getattr(torch, dtype)
        tensor = torch.from_numpy(np.array(array, np.float32, order="C")).to(kept)
        setattr(layer, attribute, nn.Parameter(tensor))
    return model.eval()
