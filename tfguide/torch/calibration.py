"""What the linear layers of a model read: X^T X of their inputs, for second-order rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from tfguide.compress.calibration import TOKENS, observed_layers
from tfguide.torch.inputs import as_tokens
from tfguide.torch.linear import left_out
from tfguide.torch.tensors import to_float32
from tfguide.weights import weight_table


class ObservedLinear(nn.Module):
    """A linear layer that adds up X^T X, (in, in), float32, of the rows of its inputs in `gram`."""

    def __init__(self, layer: nn.Module, d_in: int):
        super().__init__()
        self.layer, self.gram = layer, torch.zeros(d_in, d_in)

    def forward(self, x):
        """x: (..., in) to (..., out)."""
        rows = x.flatten(0, -2).float()
        self.gram.addmm_(rows.T, rows)
        return self.layer(x)


def grams(model, tokens) -> Iterator[dict[str, np.ndarray]]:
    """X^T X, (in, in), of the inputs X of linear layers for tokens (B, T), by the path of the layer.

    One dictionary for each block, in order, and one for the head. Of layers with one input only the first is named.
    Raises TypeError or ValueError for tokens that the model does not read.
    """
    observer = _Observer(model, as_tokens(model, tokens)[0])
    yield from (observer.read_block(index) for index in range(len(observer.stack.layers)))
    yield observer.read_head()


class _Observer:
    """Reads tokens (B, T) with a model's blocks, one block for all tokens before the next; the model is not changed."""

    @torch.inference_mode()
    def __init__(self, model, tokens):
        self._model, self._name = model, "encoder" if model.config.kind == "encoder" else "decoder"
        self.stack = getattr(model, self._name)
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        self._terms = self.stack.block_terms(positions)
        self._states = [model.embedding(part, positions) for part in tokens.split(max(1, TOKENS // tokens.shape[1]))]

    @torch.inference_mode()
    def read_block(self, index: int) -> dict[str, np.ndarray]:
        """X^T X of the inputs of one block's layers, by their paths; blocks are read in order."""
        path = f"{self._name}.layers.{index}"
        block, observed = self._observed(path, index)
        self._states = [block(x, **self._terms[index]) for x in self._states]
        return {f"{path}.{own}": to_float32(layer.gram) for own, layer in observed.items()}

    @torch.inference_mode()
    def read_head(self) -> dict[str, np.ndarray]:
        """X^T X of the head's inputs: the last block's outputs, normalised as the model does."""
        if self._model.config.kind == "encoder":
            return {}
        head = ObservedLinear(nn.Identity(), self._model.config.d_model)
        for x in self._states:
            head(self.stack.final_norm(x) if self._model.config.final_norm else x)
        return {"head": to_float32(head.gram)}

    def _observed(self, path, index):
        """A copy of a block that shares its layers, and those of its layers that are observed, by their paths."""
        config, theirs = self._model.config, self._model.get_submodule(path)
        with left_out():
            block = type(theirs)(config, index).eval()
        observed = {}
        for own in _parts(config, path):
            parent, _, last = own.rpartition(".")
            layer = getattr(theirs.get_submodule(parent), last)
            if own in observed_layers(config, index):
                d_in = weight_table(config)[f"{path}.{own}.weight"].shape[0]
                layer = observed[own] = ObservedLinear(layer, d_in)
            setattr(block.get_submodule(parent), last, layer)
        return block, observed


def _parts(config, path):
    """The paths within a block of its layers with weights, and of sinks, which are a weight of attention itself."""
    names = [name.removeprefix(f"{path}.") for name in weight_table(config) if name.startswith(f"{path}.")]
    return dict.fromkeys(name if name.endswith(".sinks") else name.rpartition(".")[0] for name in names)
