"""One step of training: loss, gradients, clipping, AdamW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tfguide.checks.shapes import check_config
from tfguide.torch.models import Decoder
from tfguide.torch.tensors import to_float32
from tfguide.training import Recipe
from tfguide.weights import weight_table


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log probability of labels (B, T) under logits (B, T, V): a scalar, in nats for a token."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


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
    """Trains a decoder by a recipe; it changes the model that it is given.

    Raises ValueError for a model that is no decoder, or is quantised.
    """

    def __init__(self, model: Decoder, recipe: Recipe):
        check_config(model.config, "decoder")
        if model.quantization is not None or model.block_types:
            raise ValueError("a quantised model cannot be trained: its weights are integers")
        self.model, self.recipe = model, recipe
        self.table = weight_table(model.config)
        self.weights = [model.get_parameter(name) for name in self.table]
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]

    def step(self, tokens: np.ndarray, update: int) -> tuple[float, float]:
        """Learn from a batch (B, T + 1); the loss before the update, and the norm of the gradients before clipping.

        update: how many came before.
        """
        tokens = torch.from_numpy(tokens)
        self.model.train()  # dropout, where the configuration has it
        with torch.enable_grad():  # also for a caller who has switched gradients off
            loss = next_token_loss(self.model(tokens[:, :-1]), tokens[:, 1:])
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
            for name, tensor in zip(self.table, tensors, strict=True)
        }

    def restore(self, weights: Mapping[str, np.ndarray], moments: Mapping[str, np.ndarray]) -> None:
        """Set the weights of the model and the moments of the gradients, from canonical names."""
        with torch.no_grad():
            for i, name in enumerate(self.table):
                own = (self.weights[i], weights[name]), (self.means[i], moments[f"mean.{name}"])
                for tensor, array in (*own, (self.squares[i], moments[f"square.{name}"])):
                    tensor.copy_(torch.from_numpy(np.array(self._turned(name, array))))

    def _turned(self, name, array):
        """Between the canonical shape (in, out) of a matrix and that of nn.Linear."""
        return array.swapaxes(-2, -1) if self.table[name].is_matrix else array
