"""A mixture of experts: a router sends each token to a few of many feed-forward networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tfguide.checks.shapes import check_experts, check_features, check_routing
from tfguide.config import GATED_ACTIVATIONS
from tfguide.parts import CLAMPED_SLOPE, TINY, Experts
from tfguide.torch.feedforward import FeedForward, activate
from tfguide.torch.tensors import at_least_float32


def clamped_swiglu(up: Tensor, gate: Tensor, clamp: float) -> Tensor:
    """gpt-oss's gate: `g sigmoid(1.702 g) (u + 1)` with g at most `clamp` and u between `-clamp` and `clamp`.

    up, gate: (..., F). Source: OpenAI 2025, "gpt-oss-120b and gpt-oss-20b Model Card", and its reference code.
    """
    gate, up = gate.clamp(max=clamp), up.clamp(-clamp, clamp)
    return gate * torch.sigmoid(CLAMPED_SLOPE * gate) * (up + 1)


def route(logits: Tensor, experts: Experts, correction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The experts of each token, and their weights: two tensors (..., k).

    logits: (..., n_experts), the router's numbers; correction: (n_experts,), added to the scores for the choice alone.
    Of equal scores the first one is chosen. Sources: see `tfguide.Experts`.
    Raises ValueError where the logits do not end in `n_experts` numbers.
    """
    check_routing(tuple(logits.shape), experts)
    scores = torch.sigmoid(logits) if experts.router == "sigmoid" else torch.softmax(logits, dim=-1)
    choice = scores if correction is None else scores + correction
    if experts.n_groups > 1:
        groups = choice.unflatten(-1, (experts.n_groups, -1))
        best = groups.topk(2, dim=-1).values.sum(dim=-1)  # (..., groups)
        kept = torch.zeros_like(best, dtype=torch.bool).scatter(-1, _highest(best, experts.groups_per_token), True)
        choice = groups.masked_fill(~kept[..., None], float("-inf")).flatten(-2)
    chosen = _highest(choice, experts.per_token)
    weights = scores.gather(-1, chosen)
    if experts.normalised:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + TINY)
    return chosen, weights * experts.scale


class Router(nn.Linear):
    """A linear layer from D features to a number for each expert, and the choice by these numbers, in float32."""

    def __init__(self, d_model: int, experts: Experts):
        super().__init__(d_model, experts.n_experts, bias=experts.router_bias)
        self.sizes = experts
        self.correction_bias = nn.Parameter(torch.zeros(experts.n_experts)) if experts.correction_bias else None

    def forward(self, x):
        """x: (..., D) to the experts of each position and their weights, two tensors (..., k)."""
        x = at_least_float32(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return route(F.linear(x, self.weight.to(x.dtype), bias), self.sizes, self.correction_bias)


class StackedLinear(nn.Module):
    """A linear layer for each of n experts: `x @ weight[e] + bias[e]`, weight (n, out, in) as in nn.Linear.

    expert: a number, and x (N, in); or numbers (N, k), and x (N, k, in).
    """

    def __init__(self, n: int, d_in: int, d_out: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n, d_out, d_in))
        self.bias = nn.Parameter(torch.empty(n, d_out)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(d_in**-0.5), d_in**-0.5)

    def forward(self, x, expert):
        """x: (..., in) to (..., out)."""
        weight = self.weight[expert]  # of one expert a view: no other is read
        y = multiply(x.to(weight.dtype), weight)
        return y if self.bias is None else y + self.bias[expert]


class ExpertNetworks(nn.Module):
    """n feed-forward networks of one shape, their weights stacked: (..., D) to (..., D); expert: as in the layers."""

    def __init__(self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True):
        super().__init__()
        sizes = experts.n_experts, d_model, experts.d_expert
        self.activation, self.clamp = activation, experts.clamp
        self.gate = StackedLinear(*sizes, bias) if activation in GATED_ACTIVATIONS else None
        self.up = StackedLinear(*sizes, bias)
        self.down = StackedLinear(experts.n_experts, experts.d_expert, d_model, bias)

    def forward(self, x, expert):
        """x: (..., D) to (..., D)."""
        up, gate = self.up(x, expert), None if self.gate is None else self.gate(x, expert)
        h = activate(self.activation, up, gate) if self.clamp is None else clamped_swiglu(up, gate, self.clamp)
        return self.down(h, expert)


class MixtureOfExperts(nn.Module):
    """The sum of the chosen experts, weighted by the router, and of the shared experts; (B, T, D) to (B, T, D).

    Of the matrices of an expert that no token chose, no number is read. wide: as in `FeedForward`.
    Source: Shazeer et al. 2017; shared experts: Dai et al. 2024. Raises ValueError for an unknown activation, and for a
    clamp with another one than "swiglu".
    """

    def __init__(
        self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True, wide: bool = False
    ):
        super().__init__()
        check_experts(d_model, experts, activation)
        self.d_model, self.sizes, self.wide = d_model, experts, wide
        self.router = Router(d_model, experts)
        self.experts = ExpertNetworks(d_model, experts, activation, bias)
        self.shared = FeedForward(d_model, experts.d_shared, activation, bias, wide) if experts.n_shared else None

    def forward(self, x):
        """x: (B, T, D) to (B, T, D)."""
        check_features("x", tuple(x.shape), self.d_model)
        rows = x.reshape(-1, self.d_model)  # (N, D)
        chosen, weights = self.router(rows)  # (N, k)
        if not torch.compiler.is_compiling():
            y = self._grouped(rows, chosen, weights)
        elif chosen.numel() <= self.sizes.n_experts:  # a compiler wants shapes that do not depend on the choice
            y = self._gathered(rows, chosen, weights)
        else:
            y = _sum_of_all(self, rows, chosen, weights)
        y = y.reshape(x.shape).to(torch.float32 if self.wide and x.dtype == torch.float16 else x.dtype)
        return y if self.shared is None else y + self.shared(x)

    def _grouped(self, rows, chosen, weights):
        """The sum of the chosen experts (N, D): each reads its matrices once, for all the rows that chose it."""
        order = chosen.flatten().argsort(stable=True)  # the N k choices by expert, and by row
        counts = chosen.flatten().bincount(minlength=self.sizes.n_experts).tolist()
        y = torch.zeros_like(rows, dtype=weights.dtype)
        for expert, choices in enumerate(order.split(counts)):
            if len(choices):
                own = choices // self.sizes.per_token
                weight = weights.flatten()[choices, None]
                y = y.index_add(0, own, weight * self.experts(rows[own], expert))
        return y

    def _gathered(self, rows, chosen, weights):
        """The sum of the chosen experts (N, D): each row reads the matrices of its own."""
        repeated = rows[:, None].expand(-1, self.sizes.per_token, -1)  # (N, k, D)
        return (weights[..., None] * self.experts(repeated, chosen)).sum(dim=1)


def dense_mixture(layer: MixtureOfExperts, x: Tensor) -> Tensor:
    """What `MixtureOfExperts` computes, as a sum over all experts: those not chosen have weight 0; (B, T, D).

    Every expert reads every position: the formula, and the oracle of the layer.
    """
    y = _sum_of_all(layer, x, *layer.router(x))
    return y if layer.shared is None else y + layer.shared(x)


def _sum_of_all(layer, x, chosen, weights):
    """The sum of all experts of x (..., D), those that are not chosen (..., k) with weight 0."""
    y = torch.zeros_like(x)
    for expert in range(layer.sizes.n_experts):
        weight = weights.masked_fill(chosen != expert, 0).sum(dim=-1, keepdim=True)
        y = y + (weight * layer.experts(x, expert)).to(y.dtype)
    return y


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, in) by one weight (out, in), or x (N, k, in) each by its own, weight (N, k, out, in)."""
    if weight.dim() == 2:
        return x @ weight.T
    return (weight @ x[..., None])[..., 0]  # (N, k, out)


def _highest(scores, k):
    """The places of the k highest scores along the last axis; of equal ones, the first."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]
