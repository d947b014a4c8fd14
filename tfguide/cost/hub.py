"""A model for the cost model, by the name of a preset or from the config.json of Hugging Face."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfguide.checks.values import nearest
from tfguide.config import ModelConfig
from tfguide.parts import Experts, LatentAttention
from tfguide.presets import PRESETS

_LLAMA = dict(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=None, head_dim=None, max_position_embeddings=2048, tie_word_embeddings=False,
)  # fmt: skip
_MISTRAL = _LLAMA | dict(intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=4096 * 32)
_QWEN2 = _LLAMA | dict(
    vocab_size=151936, intermediate_size=22016, num_key_value_heads=32, max_position_embeddings=32768,
    use_sliding_window=False, sliding_window=4096, max_window_layers=28, layer_types=None,
)  # fmt: skip
_QWEN3 = _QWEN2 | dict(head_dim=128, attention_bias=False)

#: What each family's class in transformers (5.23) fills in for a key that is absent, of the keys that change a cost.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA | dict(attention_bias=False, mlp_bias=False),
    "mistral": _MISTRAL | dict(sliding_window=4096),
    "mixtral": _MISTRAL | dict(sliding_window=None, num_local_experts=8, num_experts_per_tok=2),
    "qwen2": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": {key: value for key, value in _QWEN3.items() if key not in ("max_window_layers", "layer_types")}
    | dict(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=24, num_key_value_heads=4, head_dim=None,
        num_experts=128, num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1, mlp_only_layers=None,
    ),
    "deepseek_v3": _LLAMA | dict(
        vocab_size=129280, hidden_size=7168, intermediate_size=18432, num_hidden_layers=61, num_attention_heads=128,
        num_key_value_heads=128, max_position_embeddings=4096, attention_bias=False, n_routed_experts=256,
        num_experts_per_tok=8, moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3,
        kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    ),
    "gpt2": dict(
        vocab_size=50257, n_positions=1024, n_embd=768, n_layer=12, n_head=12, n_inner=None, tie_word_embeddings=True
    ),
    "bert": dict(
        vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=512, type_vocab_size=2,
    ),
    "t5": dict(
        vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=None, num_heads=8,
        relative_attention_num_buckets=32, feed_forward_proj="relu", tie_word_embeddings=True,
    ),
}  # fmt: skip

# Other names of a key, which the class takes in its place.
ALIASES: dict[str, dict[str, str]] = {
    "gpt2": dict(hidden_size="n_embd", max_position_embeddings="n_positions", num_attention_heads="n_head",
                 num_hidden_layers="n_layer"),
    "t5": dict(hidden_size="d_model", num_attention_heads="num_heads", num_hidden_layers="num_layers", head_dim="d_kv"),
    "mixtral": dict(num_experts="num_local_experts"),
    "qwen3_moe": dict(num_local_experts="num_experts"),
    "deepseek_v3": dict(num_local_experts="n_routed_experts"),
}  # fmt: skip


def find_model(name: str | os.PathLike) -> ModelConfig:
    """A preset by its name, or what a config.json says: a path to the file, or to the folder that it is in.

    What is read is what the family's class in transformers reads, with its defaults, and of that only what changes a
    cost; everything else is passed over. Raises ValueError for a name that is neither, with the nearest presets, for a
    file that is not JSON, and for a family that is unknown or a size that cannot be.
    """
    if str(name) in PRESETS:
        return ModelConfig.from_preset(str(name))
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{str(name)!r} is no preset, and no config.json is there; `tfguide models` lists the presets"
            f"{nearest(str(name), PRESETS)}"
        )
    try:
        keys = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(keys, dict):
        raise ValueError(f"{file} must hold an object, got {type(keys).__name__}")
    try:
        return config_from_keys(keys)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def config_from_keys(keys: Mapping[str, Any]) -> ModelConfig:
    """The sizes in the keys of a config.json. Raises ValueError and TypeError as `find_model`."""
    family = keys.get("model_type")
    if not isinstance(family, str) or family not in DEFAULTS:
        raise ValueError(
            f"model_type={family!r} is not known{nearest(str(family), DEFAULTS)}; known are {', '.join(DEFAULTS)}"
        )
    defaults, aliases = DEFAULTS[family], ALIASES.get(family, {})
    given = {key: keys[other] for other, key in aliases.items() if other in keys}
    given |= {key: keys[key] for key in defaults if key in keys}
    for key, value in given.items():
        if value is None and key not in _MAY_BE_NULL:
            raise ValueError(f"{key} must not be null; absent, it is {defaults[key]!r}")
    known = defaults | given
    return {"gpt2": _gpt2, "bert": _bert, "t5": _t5}.get(family, _llama_like)(known, family)


# Where null says something: as many as there are query heads, no window, a size that follows from others.
_MAY_BE_NULL = (
    "num_key_value_heads", "head_dim", "sliding_window", "layer_types", "mlp_only_layers", "q_lora_rank", "n_inner",
    "num_decoder_layers", "max_position_embeddings", "n_shared_experts", "first_k_dense_replace", "attention_bias",
    "mlp_bias", "tie_word_embeddings", "use_sliding_window",
)  # fmt: skip


def _gpt2(keys, _):
    return ModelConfig(
        kind="decoder",
        d_model=keys["n_embd"],
        n_layers=keys["n_layer"],
        n_heads=keys["n_head"],
        d_ff=4 * keys["n_embd"] if keys["n_inner"] is None else keys["n_inner"],
        vocab_size=keys["vocab_size"],
        max_positions=keys["n_positions"],
        positions="learned",
        tied_head=bool(keys["tie_word_embeddings"]),
    )


def _bert(keys, _):
    return ModelConfig(
        kind="encoder",
        d_model=keys["hidden_size"],
        n_layers=keys["num_hidden_layers"],
        n_heads=keys["num_attention_heads"],
        d_ff=keys["intermediate_size"],
        vocab_size=keys["vocab_size"],
        max_positions=keys["max_position_embeddings"],
        n_token_types=keys["type_vocab_size"],
        norm_placement="post",
        embedding_norm=True,
        positions="learned",
    )


def _t5(keys, _):
    layers = keys["num_layers"] if keys["num_decoder_layers"] is None else keys["num_decoder_layers"]
    return ModelConfig(
        kind="encoder-decoder",
        d_model=keys["d_model"],
        d_head=keys["d_kv"],
        n_layers=layers,
        n_encoder_layers=keys["num_layers"],
        n_heads=keys["num_heads"],
        d_ff=keys["d_ff"],
        vocab_size=keys["vocab_size"],
        norm="rms",
        positions="relative",
        relative_buckets=keys["relative_attention_num_buckets"],
        activation="geglu" if str(keys["feed_forward_proj"]).startswith("gated-") else "relu",
        qkv_bias=False,
        output_bias=False,
        ffn_bias=False,
        tied_head=keys["tie_word_embeddings"] is not False,
    )


def _llama_like(keys, family):
    n_heads, n_layers = keys["num_attention_heads"], keys["num_hidden_layers"]
    n_kv_heads = n_heads if keys["num_key_value_heads"] is None else keys["num_key_value_heads"]
    bias = bool(keys.get("attention_bias", False))
    latent = _latent(keys) if family == "deepseek_v3" else None
    window, sliding = _window(keys)
    return ModelConfig(
        kind="decoder",
        d_model=keys["hidden_size"],
        n_layers=n_layers,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        d_head=latent.d_nope + latent.d_rope if latent else keys["head_dim"],
        d_ff=keys["intermediate_size"],
        vocab_size=keys["vocab_size"],
        max_positions=keys["max_position_embeddings"],
        norm="rms",
        positions="rotary",
        activation="swiglu",
        qkv_bias=bias or family == "qwen2",
        output_bias=bias,
        ffn_bias=bool(keys.get("mlp_bias", False)),
        qk_norm=family in ("qwen3", "qwen3_moe"),
        tied_head=bool(keys["tie_word_embeddings"]),
        sliding_window=window,
        sliding_layers=sliding,
        latent=latent,
        experts=_experts(keys, family),
    )


def _window(keys):
    """The sliding window, and the layers that have it: None for all."""
    window = keys.get("sliding_window") if keys.get("use_sliding_window", True) else None
    if window is None or "layer_types" not in keys:  # a family whose layers are alike
        return window, None
    n_layers, kinds = keys["num_hidden_layers"], keys["layer_types"]
    if kinds is None:
        sliding = tuple(range(min(keys["max_window_layers"], n_layers), n_layers))
    else:
        unknown = [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]
        if unknown or len(kinds) != n_layers:
            raise ValueError(
                f"layer_types must name full_attention or sliding_attention for each of {n_layers} layers, "
                f"got {len(kinds)} of which unknown: {unknown[:3]}"
            )
        sliding = tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
    return (window, sliding) if sliding else (None, None)


def _experts(keys, family):
    if family == "mixtral":
        n_experts, width, more = keys["num_local_experts"], keys["intermediate_size"], {}
    elif family == "qwen3_moe":
        n_experts, width = keys["num_experts"], keys["moe_intermediate_size"]
        more = dict(n_dense_layers=_dense_layers(keys))
    elif family == "deepseek_v3":
        n_experts, width = keys["n_routed_experts"], keys["moe_intermediate_size"]
        dense = min(keys["first_k_dense_replace"] or 0, keys["num_hidden_layers"])
        more = dict(n_shared=keys["n_shared_experts"] or 0, n_dense_layers=dense, router_bias=True)
    else:
        return None
    return Experts(n_experts=n_experts, per_token=keys["num_experts_per_tok"], d_expert=width, **more)


def _dense_layers(keys):
    """How many layers at the beginning have no experts. Raises ValueError where others have none."""
    dense, period = sorted(set(keys["mlp_only_layers"] or ())), keys["decoder_sparse_step"]
    if period != 1 or dense != list(range(len(dense))):
        raise ValueError(
            "layers without experts are known at the beginning only, got "
            f"mlp_only_layers={keys['mlp_only_layers']!r}, decoder_sparse_step={period!r}"
        )
    return len(dense)


def _latent(keys):
    return LatentAttention(
        kv_rank=keys["kv_lora_rank"],
        d_nope=keys["qk_nope_head_dim"],
        d_rope=keys["qk_rope_head_dim"],
        d_value=keys["v_head_dim"],
        query_rank=keys["q_lora_rank"],
    )
