"""How many numbers a model is made of, counted from the table of its weights."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.weights import PARTS, attention_names, weight_table


def parameters(config: ModelConfig) -> int:
    """The weights and biases of a model, exact; all experts count, whether a token goes to them or not.

    Not counted: rotary and sinusoidal tables, which are not learned, and a second-token head (DeepSeek-V3).

    >>> parameters(ModelConfig.from_preset("llama-2-7b"))
    6738415616
    """
    return sum(parameters_by_part(config).values())


def active_parameters(config: ModelConfig) -> int:
    """The parameters that one token passes through: all of them, but of the experts only those it is sent to.

    >>> active_parameters(ModelConfig.from_preset("mixtral-8x7b"))
    12879925248
    """
    return sum(parameters_by_part(config, active=True).values())


def parameters_by_part(config: ModelConfig, active: bool = False) -> dict[str, int]:
    """The parameters of each part: "embedding", "attention", "feed_forward", "norms", "head". Raises TypeError.

    active: count those experts only that one token is sent to. A head that is the embedding's transpose counts as 0.
    """
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    counts = dict.fromkeys(PARTS, 0)
    for (part, _, routed), elements in _elements(config).items():
        counts[part] += _of_a_token(config, elements) if active and routed else elements
    return counts


def multiplied_parameters(config: ModelConfig) -> dict[str, int]:
    """The elements of the matrices that one token is multiplied by in all layers: "attention", "feed_forward".

    Each is one multiplication and one addition for a token. Of the experts those it is sent to count, and the router.
    """
    counts = {"attention": 0, "feed_forward": 0}
    for (part, role, routed), elements in _elements(config).items():
        if role in ("attention", "feed_forward", "router", "expert"):
            counts[part] += _of_a_token(config, elements) if routed else elements
    return counts


def experts_read(config: ModelConfig, tokens: int) -> float:
    """How many routed experts of a layer a step of so many tokens reads, on average; 0 without experts.

    Those on which at least one token falls, when tokens fall evenly and independently on k of n experts each:
    n (1 - (1 - k / n)^tokens).

    >>> round(experts_read(ModelConfig.from_preset("mixtral-8x7b"), 4), 2)
    5.47
    """
    check_count("tokens", tokens)
    if config.experts is None:
        return 0.0
    n, k = config.experts.n_experts, config.experts.per_token
    return n * (1 - (1 - k / n) ** tokens)


def expert_parameters(config: ModelConfig, biases: bool = True) -> int:
    """The elements of one routed expert in all layers together, with its biases or of its matrices alone."""
    if config.experts is None:
        return 0
    elements = _elements(config)
    routed = sum(n for (_, role, is_routed), n in elements.items() if is_routed and (biases or role == "expert"))
    return routed // config.experts.n_experts


@lru_cache(maxsize=128)
def attention_parameters(config: ModelConfig) -> int:
    """The projections of one attention layer, with their biases and the norms inside it."""
    layer = attention_names(config)[0]
    return sum(weight.size for name, weight in weight_table(config).items() if name.startswith(f"{layer}."))


@lru_cache(maxsize=128)  # a plan asks for the counts of one model a thousand times
def _elements(config):
    """The elements of all weights by their part, their role, and whether they belong to experts that are chosen."""
    elements = Counter()
    for weight in weight_table(config).values():
        elements[weight.part, weight.role, weight.is_routed] += weight.size
    return elements


def _of_a_token(config, elements):
    """Of the elements of all experts those of the experts that one token is sent to."""
    return elements // config.experts.n_experts * config.experts.per_token
