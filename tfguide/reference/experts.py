"""A mixture of experts: a router sends each token to a few of many feed-forward networks."""

from __future__ import annotations

import numpy as np

from tfguide.checks.shapes import check_experts, check_features, check_routing
from tfguide.config import GATED_ACTIVATIONS
from tfguide.parts import CLAMPED_SLOPE, TINY, Experts
from tfguide.reference.feedforward import FeedForward, activate
from tfguide.reference.linear import Linear


def clamped_swiglu(up: np.ndarray, gate: np.ndarray, clamp: float) -> np.ndarray:
    """gpt-oss's gate: `g sigmoid(1.702 g) (u + 1)` with g at most `clamp` and u between `-clamp` and `clamp`.

    up, gate: (..., F). Source: OpenAI 2025, "gpt-oss-120b and gpt-oss-20b Model Card", and its reference code.
    """
    gate, up = np.minimum(gate, clamp), np.clip(up, -clamp, clamp)
    return gate * _sigmoid(CLAMPED_SLOPE * gate) * (up + 1)


def route(logits: np.ndarray, experts: Experts, correction: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The experts of each token, and their weights: two arrays (..., k).

    logits: (..., n_experts), the router's numbers; correction: (n_experts,), added to the scores for the choice alone.
    Of equal scores the first one is chosen. Sources: see `tfguide.Experts`.
    Raises ValueError where the logits do not end in `n_experts` numbers.
    """
    check_routing(logits.shape, experts)
    scores = _sigmoid(logits) if experts.router == "sigmoid" else _softmax(logits)
    choice = scores if correction is None else scores + correction
    if experts.n_groups > 1:
        groups = choice.reshape(*choice.shape[:-1], experts.n_groups, -1)
        best = np.sort(groups, axis=-1)[..., -2:].sum(axis=-1)  # (..., groups)
        kept = np.zeros(best.shape, bool)
        np.put_along_axis(kept, _highest(best, experts.groups_per_token), True, axis=-1)
        choice = np.where(kept[..., None], groups, -np.inf).reshape(choice.shape)
    chosen = _highest(choice, experts.per_token)
    weights = np.take_along_axis(scores, chosen, axis=-1)
    if experts.normalised:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + TINY)
    return chosen, weights * experts.scale


class Router(Linear):
    """A linear layer from D features to a number for each expert, and the choice by these numbers.

    Raises ValueError where the input does not end in D features.
    """

    def __init__(self, d_model: int, experts: Experts):
        super().__init__(d_model, experts.n_experts, experts.router_bias)
        self.sizes = experts
        self.correction_bias = np.zeros(experts.n_experts) if experts.correction_bias else None

    def __call__(self, x):
        """x: (..., D) to the experts of each position and their weights, two arrays (..., k)."""
        return route(super().__call__(x), self.sizes, self.correction_bias)


class StackedLinear:
    """A linear layer for each of n experts: `x @ weight[e] + bias[e]`, weight (n, in, out); zeros until it is set."""

    def __init__(self, n: int, d_in: int, d_out: int, bias: bool = True):
        self.weight = np.zeros((n, d_in, d_out))
        self.bias = np.zeros((n, d_out)) if bias else None

    def __call__(self, x, expert):
        """x: (..., in) to (..., out), by the layer of one expert."""
        y = x @ self.weight[expert]
        return y if self.bias is None else y + self.bias[expert]


class ExpertNetworks:
    """n feed-forward networks of one shape, their weights stacked: (..., D) to (..., D), by one of them."""

    def __init__(self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True):
        sizes = experts.n_experts, d_model, experts.d_expert
        self.activation, self.clamp = activation, experts.clamp
        self.gate = StackedLinear(*sizes, bias) if activation in GATED_ACTIVATIONS else None
        self.up = StackedLinear(*sizes, bias)
        self.down = StackedLinear(experts.n_experts, experts.d_expert, d_model, bias)

    def __call__(self, x, expert):
        """x: (..., D) to (..., D), by the network of one expert."""
        up, gate = self.up(x, expert), None if self.gate is None else self.gate(x, expert)
        h = activate(self.activation, up, gate) if self.clamp is None else clamped_swiglu(up, gate, self.clamp)
        return self.down(h, expert)


class MixtureOfExperts:
    """The sum of the chosen experts, weighted by the router, and of the shared experts; (B, T, D) to (B, T, D).

    Of the matrices of an expert that no token chose, no number is read. wide: asks for more than half precision after
    `down`; float64 has it already.
    Source: Shazeer et al. 2017; shared experts: Dai et al. 2024. Raises ValueError for an unknown activation, and for a
    clamp with another one than "swiglu".
    """

    def __init__(
        self, d_model: int, experts: Experts, activation: str = "swiglu", bias: bool = True, wide: bool = False
    ):
        check_experts(d_model, experts, activation)
        self.d_model, self.sizes = d_model, experts
        self.router = Router(d_model, experts)
        self.experts = ExpertNetworks(d_model, experts, activation, bias)
        self.shared = FeedForward(d_model, experts.d_shared, activation, bias, wide) if experts.n_shared else None

    def __call__(self, x):
        """x: (B, T, D) to (B, T, D)."""
        check_features("x", np.shape(x), self.d_model)
        chosen, weights = self.router(x)  # (B, T, k)
        y = np.zeros(x.shape) if self.shared is None else self.shared(x)
        for expert in np.unique(chosen):
            place = chosen == expert  # (B, T, k), True once at most in each position
            here = place.any(axis=-1)
            y[here] += self.experts(x[here], expert) * weights[place][:, None]
        return y


def dense_mixture(layer: MixtureOfExperts, x: np.ndarray) -> np.ndarray:
    """What `MixtureOfExperts` computes, as a sum over all experts: those not chosen have weight 0; (B, T, D).

    Every expert reads every position: the formula, and the oracle of the layer.
    """
    chosen, weights = layer.router(x)
    y = np.zeros(x.shape) if layer.shared is None else layer.shared(x)
    for expert in range(layer.sizes.n_experts):
        weight = np.where(chosen == expert, weights, 0.0).sum(axis=-1, keepdims=True)  # (B, T, 1)
        y = y + weight * layer.experts(x, expert)
    return y


def _highest(scores, k):
    """The places of the k highest scores along the last axis; of equal ones, the first."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # by tanh: nothing overflows
