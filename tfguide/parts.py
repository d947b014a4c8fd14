"""The optional parts of a `ModelConfig`, each a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass

from tfguide.checks.values import check_choice, check_count, check_number, make_plain

ROUTERS = ("softmax", "sigmoid")
CLAMPED_SLOPE = 1.702  # of gpt-oss's gate: x sigmoid(1.702 x) is nearly GELU
TINY = 1e-20  # added to a sum of scores, which may all be 0


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts instead of the feed-forward network: each token goes to a few of many networks.

    `per_token` of `n_experts` networks with `d_expert` hidden features are chosen by a router (D, n_experts);
    `n_shared` more of the same size see every token, as one network of `n_shared * d_expert` features. The first
    `n_dense_layers` layers keep the ordinary network of `d_ff`.

    router: "softmax" or "sigmoid" turns the router's numbers into scores. The chosen experts have the highest scores;
    of equal ones, the first. Their outputs are added with their scores as weights, divided by the sum of the chosen
    ones where `normalised`, times `scale`. A softmax over the chosen ones alone, as in gpt-oss, is the normalised
    softmax over all: its sum cancels. router_bias: the router adds a number for each expert (gpt-oss).
    correction_bias: a number for each expert is added to the scores for the choice alone, not for the weights.
    n_groups: experts stand in groups of equal size, and a token chooses among those of the `groups_per_token` groups
    whose two best scores have the largest sum (DeepSeek-V3). clamp: the gates of the experts are those of gpt-oss,
    `min(g, clamp) sigmoid(1.702 min(g, clamp)) (u + 1)` with u between -clamp and clamp.
    Source: Shazeer et al. 2017; shared experts: Dai et al. 2024; groups: DeepSeek-AI 2024, "DeepSeek-V3 Technical
    Report", section 2.1.2.

    Raises ValueError where a size is out of range, `per_token` is above the number of experts to choose from, or the
    groups do not divide the experts; TypeError for a flag that is no bool.
    """

    n_experts: int
    per_token: int
    d_expert: int
    n_shared: int = 0
    n_dense_layers: int = 0
    router: str = "softmax"
    normalised: bool = True
    scale: float = 1.0
    router_bias: bool = False
    correction_bias: bool = False
    n_groups: int = 1
    groups_per_token: int = 1
    clamp: float | None = None

    def __post_init__(self):
        make_plain(self)
        check_choice("router", self.router, ROUTERS)
        for name in ("n_experts", "per_token", "d_expert", "n_groups", "groups_per_token"):
            check_count(name, getattr(self, name))
        for name in ("n_shared", "n_dense_layers"):
            check_count(name, getattr(self, name), least=0)
        for name in ("normalised", "router_bias", "correction_bias"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, got {getattr(self, name)!r}")
        check_number("scale", self.scale, above=0.0)
        if self.clamp is not None:
            check_number("clamp", self.clamp, above=0.0)
        if self.per_token > self.n_experts:
            raise ValueError(f"per_token must be at most n_experts={self.n_experts}, got {self.per_token}")
        self._check_groups()

    def _check_groups(self):
        if self.groups_per_token > self.n_groups:
            raise ValueError(f"groups_per_token must be at most n_groups={self.n_groups}, got {self.groups_per_token}")
        if self.n_experts % self.n_groups:
            raise ValueError(f"n_groups must divide n_experts={self.n_experts}, got {self.n_groups}")
        size = self.n_experts // self.n_groups
        if self.n_groups > 1 and size < 2:
            raise ValueError(f"a group is chosen by its two best experts: n_groups={self.n_groups} leaves groups of 1")
        if self.per_token > self.groups_per_token * size:
            raise ValueError(
                f"per_token must be at most the {self.groups_per_token * size} experts of groups_per_token="
                f"{self.groups_per_token} groups, got {self.per_token}"
            )

    @property
    def d_shared(self) -> int:
        """The hidden features of the network that every token passes through; 0: there is none."""
        return self.n_shared * self.d_expert


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention: keys and values of all heads are made from one small vector, which is cached.

    A token's cache holds `kv_rank` numbers and `d_rope` more that carry the position. A head's query and key have
    `d_nope + d_rope` features, its value `d_value`. `query_rank`: the size of a vector between a position's D features
    and its queries (default: no such vector). norm_eps: of the RMS norms of both vectors.
    Source: DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.

    Raises ValueError where a size is below 1 or the epsilon is not positive.
    """

    kv_rank: int
    d_nope: int
    d_rope: int
    d_value: int
    query_rank: int | None = None
    norm_eps: float = 1e-6

    def __post_init__(self):
        make_plain(self)
        for name in ("kv_rank", "d_nope", "d_rope", "d_value"):
            check_count(name, getattr(self, name))
        if self.query_rank is not None:
            check_count("query_rank", self.query_rank)
        check_number("norm_eps", self.norm_eps, above=0.0)

    @property
    def d_head(self) -> int:
        """The features of a head's query and key."""
        return self.d_nope + self.d_rope

    @property
    def cached(self) -> dict[str, tuple[int, ...]]:
        """What a layer keeps of each position, as one key and value that all query heads share: shapes by name.

        >>> LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128).cached
        {'rope': (1, 64), 'latent': (1, 512)}
        """
        return {"rope": (1, self.d_rope), "latent": (1, self.kv_rank)}

    def check_heads(self, n_heads: int, n_kv_heads: int, d_head: int, is_modified: bool) -> None:
        """Raises ValueError for what a model with latent attention cannot choose: every head has keys of its own."""
        if is_modified:
            raise ValueError(f"qk_norm, attention_sinks and attention_softcap have no place with latent={self}")
        for name, got, expected in (("n_kv_heads", n_kv_heads, n_heads), ("d_head", d_head, self.d_head)):
            if got != expected:
                raise ValueError(f"{name} must be {expected} with latent={self}, got {got}")

    def absorbs(self, n_queries: int | None, n_keys: int | None) -> bool:
        """Whether `n_queries` positions that see `n_keys` attend to the cached vectors, without keys and values.

        For each head and each key that costs `n_queries (2 kv_rank + d_rope)` products, and making keys and values
        `n_queries (d_nope + d_rope + d_value) + kv_rank (d_nope + d_value)`; the fewer are done. Where every key
        belongs to one of the queries, keys and values are made: each is needed once anyway. None: a number that is
        not known yet, in a graph.

        >>> LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128).absorbs(170, 4096)
        True
        >>> LatentAttention(kv_rank=512, d_nope=128, d_rope=64, d_value=128).absorbs(171, 4096)
        False
        """
        if n_queries is None or n_queries == n_keys:
            return False
        made = self.d_nope + self.d_value
        return n_queries * (2 * self.kv_rank - made) < self.kv_rank * made


@dataclass(frozen=True, kw_only=True)
class LabelHead:
    """A linear map from an encoder's hidden states to a number for each of `n_labels` labels: a classifier.

    per: "text" labels a text, from its pooled vector where the configuration has a pooler, and else from the mean of
    its hidden states; "token" labels each token. Source: Devlin et al. 2019, section 4.

    Raises TypeError or ValueError for a number that is no count, and for another `per`.
    """

    n_labels: int
    per: str = "text"

    def __post_init__(self):
        make_plain(self)
        check_count("n_labels", self.n_labels)
        check_choice("per", self.per, ("text", "token"))
