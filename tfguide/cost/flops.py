"""How many floating-point operations: the matrix products and attention, exact by terms.

A product of (m, k) by (k, n) is 2 m k n operations: one multiplication and one addition for each term. Not counted:
norms, activations, softmax, rotations and biases, which grow with D instead of D * D and are limited by memory; and a
head for labels, which is small.
"""

from __future__ import annotations

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.cost.parameters import multiplied_parameters


def prefill_flops(config: ModelConfig, tokens: int, batch: int = 1) -> int:
    """The operations of reading a prompt of `tokens`, for logits of its last position alone (all, in an encoder).

    A decoder computes T (T + 1) / 2 of the T * T pairs of positions, since no position sees a later one; a sliding
    window leaves fewer. Raises ValueError for counts below 1, and for encoder-decoders, which read two texts.
    """
    return sum(prefill_flops_by_term(config, tokens, batch).values())


def decode_flops(config: ModelConfig, context: int, batch: int = 1) -> int:
    """The operations of one new token with its logits; it sees `context` positions, its own among them."""
    return sum(decode_flops_by_term(config, context, batch).values())


def prefill_flops_by_term(config: ModelConfig, tokens: int, batch: int = 1) -> dict[str, int]:
    """The terms of `prefill_flops`: "projections", "attention", "feed_forward", "head"."""
    _check(config, batch)
    check_count("tokens", tokens)
    if config.kind == "encoder":
        return terms(config, batch, tokens, config.n_layers * tokens * tokens, logits=0, decoding=False)
    return terms(config, batch, tokens, seen_pairs(config, tokens, tokens), logits=1, decoding=False)


def decode_flops_by_term(config: ModelConfig, context: int, batch: int = 1) -> dict[str, int]:
    """The terms of `decode_flops`: as in `prefill_flops_by_term`."""
    _check(config, batch)
    check_count("context", context)
    return terms(config, batch, 1, seen_pairs(config, context, 1), logits=1, decoding=True)


def terms(config: ModelConfig, batch: int, tokens: int, pairs: int, logits: int, decoding: bool) -> dict[str, int]:
    """The operations of `batch` sequences of `tokens` new tokens, by term.

    pairs: of a query and a key that are compared, in all layers of one sequence. logits: the number of tokens of a
    sequence whose logits are computed. decoding: whether latent attention has the form that it takes for one token.
    """
    matrices = multiplied_parameters(config)
    read = (config.d_input or 0) * config.d_model  # vectors are multiplied, where tokens are looked up
    logits_width = config.vocab_size if logits else 0
    return {
        "projections": 2 * batch * tokens * (matrices["attention"] + read),
        "attention": batch * pairs * pair_flops(config, decoding),
        "feed_forward": 2 * batch * tokens * matrices["feed_forward"],
        "head": 2 * batch * logits * config.d_model * logits_width,
    }


def pair_flops(config: ModelConfig, decoding: bool) -> int:
    """The operations for one query position and one key position in one layer: scores, and the weighted mean."""
    latent = config.latent
    if latent is None:
        return 4 * config.n_heads * config.d_head
    if decoding:  # in the latent space: the cached vector is key and value of every head
        return 2 * config.n_heads * (2 * latent.kv_rank + latent.d_rope)
    return 2 * config.n_heads * (latent.d_nope + latent.d_rope + latent.d_value)


def seen_pairs(config: ModelConfig, context: int, new_tokens: int) -> int:
    """The pairs of a new query position and a key position that it sees, in all layers of one sequence.

    The last query sees `context` positions, the one before it one less; in a layer with a window, none sees more than
    the window.
    """
    sliding = config.n_sliding_layers
    whole = visible_pairs(context, new_tokens)
    inside = visible_pairs(context, new_tokens, config.sliding_window) if sliding else 0
    return (config.n_layers - sliding) * whole + sliding * inside


def visible_pairs(context: int, new_tokens: int, window: int | None = None) -> int:
    """The pairs of `seen_pairs` in one layer, with a window or without: T (T + 1) / 2 of a whole prompt.

    >>> visible_pairs(5, 5), visible_pairs(5, 1), visible_pairs(5, 5, window=3)
    (15, 5, 12)
    """
    window = context if window is None else min(context, window)
    first = context - new_tokens + 1  # what the first new token sees
    growing = max(0, window - first)  # queries that see less than the window
    return growing * (2 * first + growing - 1) // 2 + (new_tokens - growing) * window


def _check(config, batch):
    if not isinstance(config, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(config).__name__}")
    check_count("batch", batch)
    if config.kind == "encoder-decoder":
        raise ValueError("the cost model counts encoders and decoders; an encoder-decoder reads two texts")
