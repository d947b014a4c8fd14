"""How many floating-point operations: the matrix products and attention, exact by terms.

A product of (m, k) by (k, n) is 2 m k n operations, one multiplication and one addition for each. Left out: norms,
activations, softmax, rotations and biases, which grow with D in place of D * D and are limited by memory.
"""

from __future__ import annotations

from tfguide.config import ModelConfig
from tfguide.cost.parameters import attention_parameters, feed_forward_parameters
from tfguide.parts import check_count


def prefill_flops(config: ModelConfig, tokens: int, batch: int = 1) -> int:
    """The operations of reading a prompt of `tokens`, for logits of its last position alone (all, in an encoder).

    A decoder looks only back, so that of the T * T pairs of positions T (T + 1) / 2 are computed; a sliding window
    takes off more. Raises ValueError for counts below 1, and for encoder-decoders, which read two texts.
    """
    return sum(prefill_flops_by_term(config, tokens, batch).values())


def decode_flops(config: ModelConfig, context: int, batch: int = 1) -> int:
    """The operations of one new token with its logits, where `context` positions can be seen, its own among them."""
    return sum(decode_flops_by_term(config, context, batch).values())


def prefill_flops_by_term(config: ModelConfig, tokens: int, batch: int = 1) -> dict[str, int]:
    """The terms of `prefill_flops`: "projections", "attention", "feed_forward", "head"."""
    _check(config, batch)
    check_count("tokens", tokens)
    pairs = tokens * tokens if config.kind == "encoder" else _causal_pairs(tokens, config.sliding_window)
    logits = 0 if config.kind == "encoder" else 1
    return _terms(config, batch, tokens, pairs, logits, decoding=False)


def decode_flops_by_term(config: ModelConfig, context: int, batch: int = 1) -> dict[str, int]:
    """The terms of `decode_flops`: as in `prefill_flops_by_term`."""
    _check(config, batch)
    check_count("context", context)
    seen = context if config.sliding_window is None else min(context, config.sliding_window)
    return _terms(config, batch, 1, seen, 1, decoding=True)


def _terms(config, batch, tokens, pairs, logits, decoding):
    L, D, V = config.n_layers, config.d_model, config.vocab_size
    feed_forward = sum(_ffn_matrix(config, layer) for layer in range(L))
    return {
        "projections": 2 * batch * tokens * L * _attention_matrices(config),
        "attention": batch * pairs * L * _pair_flops(config, decoding),
        "feed_forward": 2 * batch * tokens * feed_forward,
        "head": 2 * batch * logits * D * V,
    }


def _pair_flops(config, decoding):
    """The operations for one query position and one key position in one layer: scores, and the weighted mean."""
    latent = config.latent
    if latent is None:
        return 4 * config.n_heads * config.d_head
    if decoding:  # in the latent space: the cached vector is key and value of every head
        return 2 * config.n_heads * (2 * latent.kv_rank + latent.d_rope)
    return 2 * config.n_heads * (latent.d_nope + latent.d_rope + latent.d_value)


def _causal_pairs(tokens, window):
    inside = tokens if window is None else min(tokens, window)
    return inside * (inside + 1) // 2 + (tokens - inside) * inside


def _attention_matrices(config):
    """The parameters of the projections without biases and norms: each is one multiplication for a token."""
    extra = (
        config.qkv_bias * (config.n_heads + 2 * config.n_kv_heads) * config.d_head + config.output_bias * config.d_model
    )
    extra += config.qk_norm * 2 * config.d_head
    if config.latent is not None:
        extra = config.latent.kv_rank + (config.latent.query_rank or 0)
    return attention_parameters(config) - extra


def _ffn_matrix(config, layer):
    bare = config if not config.ffn_bias else config.replace(ffn_bias=False)
    bias = 0
    if config.experts is not None and layer >= config.experts.n_dense_layers and config.experts.router_bias:
        bias = config.experts.n_experts
    return feed_forward_parameters(bare, layer, active=True) - bias


def _check(config, batch):
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    check_count("batch", batch)
    if config.kind == "encoder-decoder":
        raise ValueError("the cost model counts encoders and decoders; an encoder-decoder reads two texts")
