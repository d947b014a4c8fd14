"""How many numbers a model is made of, counted from its configuration alone."""

from __future__ import annotations

from tfguide.config import ModelConfig


def parameters(config: ModelConfig) -> int:
    """The weights and biases of a model, exact; experts count all, whether a token goes to them or not.

    Left out: what is computed and not learned (rotary and sinusoidal tables), and a second-token head (DeepSeek-V3).

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
    D, V = config.d_model, config.vocab_size
    stacks = [config.n_layers] if config.kind != "encoder-decoder" else [config.n_layers, config.n_encoder_layers]
    n_blocks = sum(stacks)
    crosses = config.n_layers if config.kind == "encoder-decoder" else 0
    learned = config.max_positions * D if config.positions == "learned" else 0
    bias_tables = config.relative_buckets * config.n_heads * len(stacks) if config.positions == "relative" else 0
    norms_of_block = 1 if config.norm_placement == "parallel" else 2
    n_norms = n_blocks * norms_of_block + crosses + config.final_norm * len(stacks) + config.embedding_norm
    pooler = D * D + D if config.pooler else 0
    return {
        "embedding": V * D + learned + config.n_token_types * D,
        "attention": (n_blocks + crosses) * attention_parameters(config) + bias_tables,
        "feed_forward": sum(feed_forward_parameters(config, layer, active) for layer in range(n_blocks)),
        "norms": n_norms * _norm(config),
        "head": pooler + (0 if config.kind == "encoder" or config.tied_head else D * V),
    }


def attention_parameters(config: ModelConfig) -> int:
    """The projections of one attention layer, with the norms inside it."""
    D, H, K, d = config.d_model, config.n_heads, config.n_kv_heads, config.d_head
    if config.latent is None:
        matrices = D * (2 * H * d + 2 * K * d)
        biases = config.qkv_bias * (H + 2 * K) * d + config.output_bias * D
        return matrices + biases + config.qk_norm * 2 * d
    latent = config.latent
    d_query = latent.d_nope + latent.d_rope
    rank = latent.query_rank
    queries = D * H * d_query if rank is None else D * rank + rank + rank * H * d_query
    keys_values = D * (latent.kv_rank + latent.d_rope) + latent.kv_rank
    keys_values += latent.kv_rank * H * (latent.d_nope + latent.d_value)
    biases = config.qkv_bias * ((rank or 0) + latent.kv_rank + latent.d_rope) + config.output_bias * D
    return queries + keys_values + H * latent.d_value * D + biases


def feed_forward_parameters(config: ModelConfig, layer: int, active: bool = False) -> int:
    """The feed-forward network of one layer, or its experts and their router."""
    D, matrices = config.d_model, 3 if config.gated else 2
    experts = config.experts
    if experts is None or layer < experts.n_dense_layers:
        return matrices * D * config.d_ff + config.ffn_bias * ((matrices - 1) * config.d_ff + D)
    n = (experts.per_token if active else experts.n_experts) + experts.n_shared
    each = matrices * D * experts.d_expert + config.ffn_bias * ((matrices - 1) * experts.d_expert + D)
    return n * each + D * experts.n_experts + experts.router_bias * experts.n_experts


def _norm(config) -> int:
    return config.d_model * (2 if config.norm == "layer" and config.norm_bias else 1)
