"""The optional parts of a `ModelConfig`, each a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from tfguide.checks.values import check_count, check_number, make_plain


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's scaling of the rotary frequencies for contexts longer than those of training.

    Wavelengths shorter than `original_max_positions / high_freq_factor` stay, those longer than
    `original_max_positions / low_freq_factor` are multiplied by `factor`, and those between are interpolated.
    Source: Grattafiori et al. 2024, "The Llama 3 Herd of Models", section 3.4, and Meta's reference code.

    Raises ValueError where a factor is not positive, or where `low_freq_factor >= high_freq_factor`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def __post_init__(self):
        make_plain(self)
        for name in ("factor", "low_freq_factor", "high_freq_factor"):
            check_number(name, getattr(self, name), above=0.0)
        check_count("original_max_positions", self.original_max_positions)
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                "low_freq_factor must be below high_freq_factor, "
                f"got {self.low_freq_factor} and {self.high_freq_factor}"
            )


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts instead of the feed-forward network: each token goes to a few of many networks.

    `per_token` of `n_experts` networks with `d_expert` hidden features are chosen by a router (D, n_experts);
    `n_shared` more of the same size see every token. The first `n_dense_layers` layers keep the ordinary network of
    `d_ff`. `router_bias`: one number for each expert beside the router's matrix, as DeepSeek-V3 has it.
    Source: Shazeer et al. 2017; shared experts: Dai et al. 2024.

    Raises ValueError where a size is out of range or `per_token` is above `n_experts`.
    """

    n_experts: int
    per_token: int
    d_expert: int
    n_shared: int = 0
    n_dense_layers: int = 0
    router_bias: bool = False

    def __post_init__(self):
        make_plain(self)
        for name in ("n_experts", "per_token", "d_expert"):
            check_count(name, getattr(self, name))
        for name in ("n_shared", "n_dense_layers"):
            check_count(name, getattr(self, name), least=0)
        if self.per_token > self.n_experts:
            raise ValueError(f"per_token must be at most n_experts={self.n_experts}, got {self.per_token}")


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: keys and values of all heads are made from one small vector, which is cached.

    A token's cache holds `kv_rank` numbers and `d_rope` more that carry the position. A head's query and key have
    `d_nope + d_rope` features, its value `d_value`. `query_rank`: the size of a vector between a position's D features
    and its queries (default: no such vector).
    Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.
    """

    kv_rank: int
    d_nope: int
    d_rope: int
    d_value: int
    query_rank: int | None = None

    def __post_init__(self):
        make_plain(self)
        for name in ("kv_rank", "d_nope", "d_rope", "d_value"):
            check_count(name, getattr(self, name))
        if self.query_rank is not None:
            check_count("query_rank", self.query_rank)
