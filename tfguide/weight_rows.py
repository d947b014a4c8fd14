"""The rows of the table of weights: what each part of a configuration is made of."""

from __future__ import annotations

from collections.abc import Iterator

from tfguide.config import ModelConfig

_Rows = Iterator[tuple[str, str, str, str]]


def weight_rows(config: ModelConfig) -> _Rows:
    """The name, role, part and axes of every weight, in the order of the forward pass.

    The axes are those of the array, each a product of the names that `axis_sizes` of `tfguide.weights` has.
    """
    if config.d_input is None:
        yield "embedding.token.weight", "embedding", "embedding", "V, D"
    else:
        yield from _linear("embedding.projection", "input", "embedding", "d_input, D", bias=True)
    if config.positions == "learned":
        yield "embedding.position.weight", "positions", "embedding", "positions, D"
    if config.n_token_types:
        yield "embedding.token_type.weight", "token_types", "embedding", "token_types, D"
    if config.embedding_norm:
        yield from _norm(config, "embedding.norm")
    if config.kind != "decoder":
        yield from _stack(config, "encoder", config.n_encoder_layers or config.n_layers, cross=False)
    if config.kind != "encoder":
        yield from _stack(config, "decoder", config.n_layers, cross=config.kind == "encoder-decoder")
        if not config.tied_head:
            yield "head.weight", "head", "head", "D, V"
    if config.pooler:
        yield from _linear("pooler", "pooler", "head", "D, D", bias=True)
    if config.labels is not None:
        yield from _linear("labels", "labels", "head", "D, n_labels", bias=True)


def _stack(config, name, n_layers, cross) -> _Rows:
    if config.positions == "relative":
        yield f"{name}.relative_bias.weight", "relative_bias", "attention", "buckets, H"
    for layer in range(n_layers):
        block = f"{name}.layers.{layer}"
        yield from _norm(config, f"{block}.self_attention_norm")
        yield from _attention(config, f"{block}.self_attention")
        if cross:
            yield from _norm(config, f"{block}.cross_attention_norm")
            yield from _attention(config, f"{block}.cross_attention")
        if config.norm_placement == "both":
            yield from _norm(config, f"{block}.self_attention_post_norm")
        if config.norm_placement != "parallel":  # a parallel block has one norm for both
            yield from _norm(config, f"{block}.feed_forward_norm")
        if config.has_experts(layer):
            yield from _experts(config, f"{block}.feed_forward")
        else:
            yield from _network(config, f"{block}.feed_forward", "feed_forward", "D, F", "F, D")
        if config.norm_placement == "both":
            yield from _norm(config, f"{block}.feed_forward_post_norm")
    if config.final_norm:
        yield from _norm(config, f"{name}.final_norm")


def _attention(config, name) -> _Rows:
    if config.latent is not None:
        yield from _latent_attention(config, name)
        return
    for own, axes in (("query", "D, H d"), ("key", "D, K d"), ("value", "D, K d")):
        yield from _linear(f"{name}.{own}", "attention", "attention", axes, config.qkv_bias)
    if config.qk_norm:
        yield f"{name}.query_norm.weight", "norm", "attention", "d"
        yield f"{name}.key_norm.weight", "norm", "attention", "d"
    if config.attention_sinks:
        yield f"{name}.sinks", "sinks", "attention", "H"
    yield from _linear(f"{name}.output", "attention", "attention", "H d, D", config.output_bias)


def _latent_attention(config, name) -> _Rows:
    """Queries (if they have a rank) and keys with values, each projected to a latent, normalised, and projected up."""
    if config.latent.query_rank is None:
        yield f"{name}.query.weight", "attention", "attention", "D, H d_nope+d_rope"
    else:
        yield from _linear(f"{name}.query_down", "attention", "attention", "D, query_rank", config.qkv_bias)
        yield f"{name}.query_norm.weight", "norm", "attention", "query_rank"
        yield f"{name}.query_up.weight", "attention", "attention", "query_rank, H d_nope+d_rope"
    yield from _linear(f"{name}.key_value_down", "attention", "attention", "D, kv_rank+d_rope", config.qkv_bias)
    yield f"{name}.key_value_norm.weight", "norm", "attention", "kv_rank"
    yield f"{name}.key_value_up.weight", "attention", "attention", "kv_rank, H d_nope+d_value"
    yield from _linear(f"{name}.output", "attention", "attention", "H d_value, D", config.output_bias)


def _experts(config, name) -> _Rows:
    yield from _linear(f"{name}.router", "router", "feed_forward", "D, experts", config.experts.router_bias)
    if config.experts.correction_bias:
        yield f"{name}.router.correction_bias", "bias", "feed_forward", "experts"
    yield from _network(config, f"{name}.experts", "expert", "experts, D, d_expert", "experts, d_expert, D")
    if config.experts.n_shared:
        yield from _network(config, f"{name}.shared", "feed_forward", "D, shared d_expert", "shared d_expert, D")


def _network(config, name, role, up, down) -> _Rows:
    for own, axes in (*([("gate", up)] if config.gated else []), ("up", up), ("down", down)):
        yield from _linear(f"{name}.{own}", role, "feed_forward", axes, config.ffn_bias)


def _linear(name, role, part, axes, bias) -> _Rows:
    yield f"{name}.weight", role, part, axes
    if bias:
        *stacked, _, d_out = axes.split(", ")
        yield f"{name}.bias", "bias", part, ", ".join((*stacked, d_out))


def _norm(config, name) -> _Rows:
    yield f"{name}.weight", "norm", "norms", "D"
    if config.norm == "layer" and config.norm_bias:
        yield f"{name}.bias", "bias", "norms", "D"
