"""Checks of a caller's shapes, types and sizes, as plain tuples: all three implementations raise the same errors.

A size of None is not yet known in a traced graph; it is checked while the graph runs.
"""

from __future__ import annotations

from tfguide.checks.values import check_count
from tfguide.config import ACTIVATIONS, GATED_ACTIVATIONS, ModelConfig
from tfguide.parts import Experts

Shape = tuple[int | None, ...]


def check_attention(
    query: Shape, key: Shape, value: Shape, visible: Shape | None = None, bias: Shape | None = None
) -> None:
    """Check query (B, T, H, d), key (B, S, K, d), value (B, S, K, d), the mask and the bias. Raises ValueError."""
    for name, shape, letters in (("query", query, "(B, T, H, d)"), ("key", key, "(B, S, K, d)")):
        _check_rank(name, shape, letters)
        _check_not_empty(name, shape, letters)
    _check_rank("value", value, "(B, S, K, d)")
    if any(_differ(k, v) for k, v in zip(key[:3], value[:3], strict=True)):
        raise ValueError(f"key and value must agree in batch, length and heads, got {key} and {value}")
    if _differ(query[0], key[0]):
        raise ValueError(f"query and key must have the same batch size, got {query} and {key}")
    if _differ(query[3], key[3]):
        raise ValueError(f"query and key must have the same d_head, got {query} and {key}")
    if query[2] % key[2]:
        raise ValueError(
            f"the number of key/value heads must divide the number of query heads, got {key[2]} and {query[2]}"
        )
    full = (query[0], query[2], query[1], key[1])  # (B, H, T, S)
    if visible is not None:
        check_visible(visible, full)
    if bias is not None:
        if len(bias) not in (3, 4):
            raise ValueError(f"bias must be (H, T, S) or (B, H, T, S), got shape {bias}")
        _check_broadcast("bias", bias, full)


def check_visible(visible: Shape, full: Shape) -> None:
    """Check that a mask is (T, S), (B, T, S) or (B, H, T, S), and broadcasts to `full`, which is (B, H, T, S)."""
    if len(visible) not in (2, 3, 4):
        raise ValueError(f"visible must be (T, S), (B, T, S) or (B, H, T, S), got shape {visible}")
    if len(visible) == 3:
        visible = (visible[0], 1, *visible[1:])
    _check_broadcast("visible", visible, full)


def check_hidden(name: str, shape: Shape, d_model: int) -> None:
    """Check activations (B, T, D). Raises ValueError."""
    _check_rank(name, shape, "(B, T, D)")
    if _differ(shape[2], d_model):
        raise ValueError(f"{name} must end in d_model={d_model}, got shape {shape}")
    _check_not_empty(name, shape, "(B, T, D)")


def check_memory(shape: Shape, x: Shape, d_model: int) -> None:
    """Check that a memory to attend to fits the activations x that attend to it. Raises ValueError."""
    check_hidden("memory", shape, d_model)
    if _differ(shape[0], x[0]):
        raise ValueError(f"memory and x must have the same batch size, got {shape} and {x}")


def check_features(name: str, shape: Shape, d_in: int) -> None:
    """Check that the last axis of activations is the expected one. Raises ValueError."""
    if not shape or _differ(shape[-1], d_in):
        raise ValueError(f"{name} must end in {d_in} features, got shape {shape}")


def check_tokens(name: str, shape: Shape, integer: bool, dtype: object, max_positions: int | None = None) -> None:
    """Check token ids (B, T): TypeError if they are not integers, ValueError for the shape or the length."""
    if not integer:
        raise TypeError(f"{name} must be integers, got {dtype}")
    _check_rank(name, shape, "(B, T)")
    _check_not_empty(name, shape, "(B, T)")
    check_length(name, shape[1], max_positions)


def check_vectors(
    name: str, shape: Shape, floating: bool, dtype: object, d_input: int, max_positions: int | None = None
) -> None:
    """Check input vectors (B, T, d_input): TypeError if they are not numbers with fractions, else ValueError."""
    if not floating:
        raise TypeError(f"{name} must be floating-point vectors, since the model has d_input={d_input}, got {dtype}")
    _check_rank(name, shape, "(B, T, d_input)")
    _check_not_empty(name, shape, "(B, T, d_input)")
    check_features(name, shape, d_input)
    check_length(name, shape[1], max_positions)


def check_length(name: str, n_positions: int | None, max_positions: int | None) -> None:
    """Check a sequence's length against the most positions of the model. Raises ValueError."""
    if max_positions is not None and n_positions is not None and n_positions > max_positions:
        raise ValueError(f"{name} may have at most max_positions={max_positions} positions, got {n_positions}")


def check_token_range(name: str, lowest: int, highest: int, vocab_size: int) -> None:
    """Check that token ids are in the vocabulary. Raises ValueError."""
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{name} must lie between 0 and {vocab_size - 1}, got {wrong}")


def check_valid(name: str, shape: Shape, boolean: bool, dtype: object, expected: Shape) -> None:
    """Check a padding mask (B, T), True at real tokens: TypeError if it is not boolean, ValueError for its shape."""
    if not boolean:
        raise TypeError(f"{name} must be boolean, True at real tokens, got {dtype}")
    if len(shape) != 2 or any(_differ(got, want) for got, want in zip(shape, expected, strict=True)):
        raise ValueError(f"{name} must have the shape of the tokens, {expected}, got {shape}")


def check_token_types(model: ModelConfig, shape: Shape, expected: Shape) -> None:
    """Check that a model has token types, and that they have the shape of the tokens. Raises ValueError."""
    if not model.n_token_types:
        raise ValueError("this model has no token types (n_token_types=0), but token_types was given")
    if len(shape) != len(expected) or any(_differ(got, want) for got, want in zip(shape, expected, strict=True)):
        raise ValueError(f"token_types must have the shape of the tokens, {expected}, got {shape}")


def check_real_tokens(every_row: bool) -> None:
    """Check that each row of a batch has a real token to take the mean of. Raises ValueError."""
    if not every_row:
        raise ValueError("valid must be True at one token of each row at least, got a row of padding only")


def check_pooler(model: ModelConfig) -> None:
    """Check that a model has a pooler. Raises ValueError."""
    if not model.pooler:
        raise ValueError("this model has no pooler (pooler=False in its configuration)")


def check_labels(model: ModelConfig) -> None:
    """Check that a model has a head for labels. Raises ValueError."""
    if model.labels is None:
        raise ValueError("this model has no head for labels (labels=None in its configuration)")


def check_boolean(name: str, is_boolean: bool, dtype: object) -> None:
    """Check that a mask is boolean. Raises TypeError: a float mask of zeros and -inf belongs in `bias`."""
    if not is_boolean:
        raise TypeError(f"{name} must be boolean, True where a query may look, got {dtype}")


def check_mask_sizes(n_queries: int, n_keys: int, window: int | None) -> tuple[int, int, int | None]:
    """The sizes of a causal mask, checked. Raises TypeError or ValueError."""
    n_queries, n_keys = check_count("n_queries", n_queries), check_count("n_keys", n_keys)
    if n_queries > n_keys:
        raise ValueError(f"n_queries may be at most n_keys, got {n_queries} and {n_keys}")
    return n_queries, n_keys, None if window is None else check_count("window", window)


def check_activation(name: str, has_gate: bool) -> None:
    """Check the name of an activation, and that it has a gate if it needs one. Raises ValueError."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
    if has_gate != (name in GATED_ACTIVATIONS):
        wanted, got = ("no gate", "one") if has_gate else ("a gate", "none")
        raise ValueError(f"activation {name!r} takes {wanted}, got {got}")


def check_feed_forward(d_model: int, d_ff: int, name: str) -> None:
    """Check the sizes and the activation of a feed-forward network. Raises TypeError or ValueError."""
    check_count("d_model", d_model)
    check_count("d_ff", d_ff)
    check_activation(name, name in GATED_ACTIVATIONS)


def check_experts(d_model: int, experts: object, activation: str) -> None:
    """Check the sizes and the activation of a mixture of experts. Raises TypeError or ValueError."""
    if not isinstance(experts, Experts):
        raise TypeError(f"experts must be an Experts, got {type(experts).__name__}")
    check_feed_forward(d_model, experts.d_expert, activation)
    if experts.clamp is not None and activation != "swiglu":
        raise ValueError(f"experts with a clamp need activation 'swiglu', got {activation!r}")


def check_routing(shape: Shape, experts: Experts) -> None:
    """Check that a router's numbers are one for each expert. Raises ValueError."""
    if not shape or _differ(shape[-1], experts.n_experts):
        raise ValueError(f"logits must end in n_experts={experts.n_experts} numbers, got shape {shape}")


def check_cross(crosses: bool, has_memory: bool) -> None:
    """Check that a decoder block is given an encoder's output if and only if it has cross-attention."""
    if crosses and not has_memory:
        raise ValueError("this block has cross-attention: expected memory (B, S, D), got None")
    if has_memory and not crosses:
        raise ValueError("this block has no cross-attention (its kind is not 'encoder-decoder'): expected no memory")


def check_config(value: object, kind: str | None = None) -> None:
    """Check that a value is a ModelConfig, of the kind if one is named. Raises TypeError or ValueError."""
    if not isinstance(value, ModelConfig):
        raise TypeError(f"config must be a ModelConfig, got {type(value).__name__}")
    if kind is not None and value.kind != kind:
        raise ValueError(f"this model needs a configuration of kind {kind!r}, got {value.kind!r}")


def check_head_sizes(d_model: int, n_heads: int, n_kv_heads: int | None, d_head: int | None) -> tuple[int, int]:
    """The number of key/value heads and d_head, derived if they are None. Raises ValueError or TypeError."""
    d_model, n_heads = check_count("d_model", d_model), check_count("n_heads", n_heads)
    n_kv_heads = check_count("n_kv_heads", n_heads if n_kv_heads is None else n_kv_heads)
    if n_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide n_heads, got n_kv_heads={n_kv_heads} and n_heads={n_heads}")
    if d_head is None:
        if d_model % n_heads:
            raise ValueError(
                "d_model must be divisible by n_heads unless d_head is given, "
                f"got d_model={d_model} and n_heads={n_heads}"
            )
        d_head = d_model // n_heads
    return n_kv_heads, check_count("d_head", d_head)


def _check_rank(name, shape, letters):
    rank = letters.count(",") + 1
    if len(shape) != rank:
        raise ValueError(f"{name} must be {letters}, {rank} axes, got shape {tuple(shape)}")


def _check_not_empty(name, shape, letters):
    if 0 in shape:
        raise ValueError(f"{name} must be {letters} with no axis of size 0, got shape {tuple(shape)}")


def _check_broadcast(name, shape, full):
    full = full[-len(shape) :]
    if any(size not in (1, None) and _differ(size, want) for size, want in zip(shape, full, strict=True)):
        raise ValueError(f"{name} of shape {shape} does not fit scores of shape {full}")


def _differ(a, b):
    return a is not None and b is not None and a != b
