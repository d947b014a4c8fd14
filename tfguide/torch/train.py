"""One step of training: loss, gradients, clipping, AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tfguide.torch.models import Decoder, Encoder, EncoderDecoder
from tfguide.torch.tensors import to_float32
from tfguide.training import NO_LABEL, Batch, Recipe, trained_names
from tfguide.weights import weight_table


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log probability of labels (...) under logits (..., V): a scalar, in nats for a label.

    A label of -1 does not count.
    """
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=NO_LABEL)


def clip_gradients(gradients: Sequence[Tensor], limit: float) -> tuple[list[Tensor], Tensor]:
    """Gradients scaled down together so that their common norm is at most `limit`, and the norm before.

    The direction stays, since all are scaled by one number. Source: Pascanu et al. 2013.
    """
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    scale = torch.clamp(limit / (norm + 1e-6), max=1.0)
    return [gradient * scale for gradient in gradients], norm


def adamw(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    update: int | Tensor,
    rate: float | Tensor,
    decay: float,
    recipe: Recipe,
) -> None:
    """Change a weight, and the moments `mean` and `square` of its gradients, by one update of AdamW, in place.

    update: how many came before. The decay is decoupled: it shrinks the weight and is no part of the gradient.
    Source: Kingma & Ba 2014, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """
    mean.lerp_(gradient, 1 - recipe.beta1)
    square.mul_(recipe.beta2).addcmul_(gradient, gradient, value=1 - recipe.beta2)
    unbiased = mean / (1 - recipe.beta1 ** (update + 1))  # both began at 0
    spread = (square / (1 - recipe.beta2 ** (update + 1))).sqrt_()
    weight.mul_(1 - rate * decay).sub_(unbiased.div_(spread.add_(recipe.epsilon)), alpha=rate)


class Trainer:
    """Trains a model by a recipe; it changes the model that it is given.

    names: the weights that are trained, canonical; default: all. Raises ValueError for an encoder without
    labels, for a quantised model, and for a name that is no weight.
    """

    def __init__(self, model: Encoder | Decoder | EncoderDecoder, recipe: Recipe, names: Sequence[str] | None = None):
        self.names = trained_names(model.config, names)
        if model.quantization is not None or model.block_types:
            raise ValueError("a quantised model cannot be trained: its weights are integers")
        self.model, self.recipe = model, recipe
        self.table = weight_table(model.config)
        self.weights = [model.get_parameter(name) for name in self.names]
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]

    def step(self, batch: Batch, update: int) -> tuple[float, float]:
        """Learn from a batch; the loss before the update, and the norm of the gradients before clipping.

        update: how many came before.
        """
        inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
        labels = torch.from_numpy(batch.labels).long()
        self.model.train()  # dropout, where the configuration has it
        with torch.enable_grad():  # also for a caller who has switched gradients off
            out = self.model(**inputs)
            if self.model.config.kind == "encoder":
                out = self.model.classify(out, inputs.get("valid"))
            loss = cross_entropy(out, labels)
        gradients = torch.autograd.grad(loss, self.weights)
        self.model.eval()
        gradients, norm = clip_gradients(gradients, self.recipe.clip)
        rate = self.recipe.rate_of(update)
        with torch.no_grad():
            for weight, gradient, mean, square in zip(self.weights, gradients, self.means, self.squares, strict=True):
                decay = self.recipe.decay if weight.ndim > 1 else 0.0
                adamw(weight, gradient, mean, square, update, rate, decay, self.recipe)
        return loss.item(), norm.item()

    def moments(self) -> dict[str, np.ndarray]:
        """The moments of the gradients, "mean.NAME" and "square.NAME", in the canonical shape of each weight."""
        pairs = (("mean", self.means), ("square", self.squares))
        return {
            f"{kind}.{name}": self._turned(name, to_float32(tensor))
            for kind, tensors in pairs
            for name, tensor in zip(self.names, tensors, strict=True)
        }

    def restore(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> None:
        """Set the weights of the model and the moments of the gradients, from canonical names."""
        with torch.no_grad():
            for name in self.table:
                self._copy(self.model.get_parameter(name), name, weights[name])
            for i, name in enumerate(self.names):
                self._copy(self.means[i], name, moments[f"mean.{name}"])
                self._copy(self.squares[i], name, moments[f"square.{name}"])

    def _copy(self, tensor, name, array):
        tensor.copy_(torch.from_numpy(np.array(self._turned(name, array))))

    def _turned(self, name, array):
        """Between the canonical shape (in, out) of a matrix and that of nn.Linear."""
        return array.swapaxes(-2, -1) if self.table[name].is_matrix else array
