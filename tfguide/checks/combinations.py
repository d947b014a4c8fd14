"""Which fields of a configuration go together."""

from __future__ import annotations

from typing import Any

from tfguide.checks.rotary import check_rotary
from tfguide.checks.values import check_count


def check_combinations(config: Any) -> None:
    """Raises ValueError or TypeError for fields of a `ModelConfig` that do not fit together."""
    if config.n_heads % config.n_kv_heads:
        raise ValueError(
            f"n_kv_heads must divide n_heads, got n_kv_heads={config.n_kv_heads} and n_heads={config.n_heads}"
        )
    if config.kind != "encoder-decoder" and config.n_encoder_layers is not None:
        raise ValueError(
            f"n_encoder_layers belongs to kind='encoder-decoder', got it with kind={config.kind!r}; use n_layers"
        )
    if config.positions == "learned" and config.max_positions is None:
        raise ValueError("positions='learned' needs max_positions, for which the table has rows; got None")
    if config.position_offset and config.positions != "learned":
        raise ValueError(f"position_offset needs positions='learned', got positions={config.positions!r}")
    if config.positions == "sinusoidal" and config.d_model % 2:
        raise ValueError(f"positions='sinusoidal' needs an even d_model, got {config.d_model}")
    d, name = (config.d_head, "d_head") if config.latent is None else (config.latent.d_rope, "d_rope")
    check_rotary(config.positions, name, d, config.d_rotary, config.rope_theta, config.rope_scaling)
    if config.latent is not None:
        config.latent.check_heads(config.n_heads, config.n_kv_heads, config.d_head, config.modifies_attention)
    if config.local_rope_theta is not None and (config.positions != "rotary" or config.sliding_window is None):
        raise ValueError(
            "local_rope_theta needs positions='rotary' and sliding_window, "
            f"got positions={config.positions!r} and sliding_window={config.sliding_window}"
        )
    if config.positions == "relative":
        _check_relative(config)
    dense = 0 if config.experts is None else config.experts.n_dense_layers
    if dense > config.n_layers:
        raise ValueError(f"n_dense_layers must be at most n_layers={config.n_layers}, got {dense}")
    if config.experts is not None and config.experts.clamp is not None and config.activation != "swiglu":
        raise ValueError(f"experts with a clamp need activation='swiglu', got activation={config.activation!r}")
    _check_sliding_layers(config)
    if config.sliding_window is not None and config.kind != "decoder":
        raise ValueError(f"sliding_window is supported for kind='decoder', got kind={config.kind!r}")
    if config.pooler and config.kind != "encoder":
        raise ValueError(f"pooler belongs to kind='encoder', got it with kind={config.kind!r}")
    if config.labels is not None and config.kind != "encoder":
        raise ValueError(f"labels belong to kind='encoder', got them with kind={config.kind!r}")
    if config.norm_placement in ("parallel", "both") and config.kind == "encoder-decoder":
        raise ValueError(
            f"norm_placement={config.norm_placement!r} has no place for cross-attention; got kind='encoder-decoder'"
        )


def check_inputs(config: Any) -> None:
    """Raises ValueError where a `ModelConfig` reads vectors, and has what belongs to tokens or to a decoder."""
    if config.d_input is None:
        return
    if config.kind != "encoder":
        raise ValueError(f"d_input belongs to kind='encoder', got it with kind={config.kind!r}")
    tokens = ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    for name, none in (*((name, None) for name in tokens), ("n_token_types", 0)):
        if getattr(config, name) != none:
            raise ValueError(f"with d_input there are no tokens: {name} must be {none}, got {getattr(config, name)}")


def _check_sliding_layers(config):
    if config.sliding_layers is None:
        return
    if config.sliding_window is None:
        raise ValueError(f"sliding_layers needs sliding_window, got {config.sliding_layers!r} without it")
    if not isinstance(config.sliding_layers, (tuple, list)) or not config.sliding_layers:
        raise TypeError(f"sliding_layers must be a tuple of layers, got {config.sliding_layers!r}")
    for layer in config.sliding_layers:
        check_count("sliding_layers", layer, least=0)
        if layer >= config.n_layers:
            raise ValueError(f"sliding_layers must be below n_layers={config.n_layers}, got {layer}")


def _check_relative(config):
    # An encoder spends half of the buckets on each direction, and half of those on one distance each.
    if config.relative_buckets < 4:
        raise ValueError(f"relative_buckets must be at least 4, got {config.relative_buckets}")
    if config.relative_max_distance <= config.relative_buckets // 2:
        raise ValueError(
            "relative_max_distance must be above relative_buckets / 2, "
            f"got {config.relative_max_distance} and {config.relative_buckets}"
        )
