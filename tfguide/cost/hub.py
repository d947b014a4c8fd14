"""A model for the cost model, by the name of a preset or from the config.json of Hugging Face."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfguide.config import ModelConfig
from tfguide.parts import Experts, LatentAttention, nearest
from tfguide.presets import PRESETS

LLAMA_LIKE = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "deepseek_v3")
OTHERS = ("bert", "gpt2", "t5")


def find_model(name: str | os.PathLike) -> ModelConfig:
    """A preset by its name, or what a config.json says: a path to the file, or to the folder that it is in.

    Only sizes are read; what changes no cost is passed over. Raises ValueError for a name that is neither, with the
    nearest presets, for a file that is not JSON, and for a family or a size that is missing or unknown.
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
    if family in OTHERS:
        from tfguide.checkpoints.fields import Fields
        from tfguide.checkpoints.reading import FAMILIES, config_of

        return config_of(FAMILIES[family], Fields(keys), ())
    if family not in LLAMA_LIKE:
        known = (*LLAMA_LIKE, *OTHERS)
        raise ValueError(
            f"model_type={family!r} is not known{nearest(str(family), known)}; known are {', '.join(known)}"
        )
    n_heads = _size(keys, "num_attention_heads")
    bias = bool(keys.get("attention_bias", family == "qwen2"))
    latent = _latent(keys) if family == "deepseek_v3" else None
    window = keys.get("sliding_window") if keys.get("use_sliding_window", family in ("mistral", "mixtral")) else None
    return ModelConfig(
        kind="decoder",
        d_model=_size(keys, "hidden_size"),
        n_layers=_size(keys, "num_hidden_layers"),
        n_heads=n_heads,
        n_kv_heads=_size(keys, "num_key_value_heads", n_heads),
        d_head=latent.d_nope + latent.d_rope if latent else keys.get("head_dim"),
        d_ff=_size(keys, "intermediate_size"),
        vocab_size=_size(keys, "vocab_size"),
        max_positions=keys.get("max_position_embeddings"),
        norm="rms",
        positions="rotary",
        activation="swiglu",
        qkv_bias=bias,
        output_bias=bias and family != "qwen2",
        ffn_bias=bool(keys.get("mlp_bias", False)),
        qk_norm=family in ("qwen3", "qwen3_moe"),
        tied_head=bool(keys.get("tie_word_embeddings", False)),
        sliding_window=window,
        latent=latent,
        experts=_experts(keys, family),
    )


def _experts(keys, family):
    if family == "mixtral":
        return Experts(
            n_experts=_size(keys, "num_local_experts"),
            per_token=_size(keys, "num_experts_per_tok"),
            d_expert=_size(keys, "intermediate_size"),
        )
    if family == "qwen3_moe":
        if keys.get("mlp_only_layers") or keys.get("decoder_sparse_step", 1) != 1:
            raise ValueError(
                "layers with and without experts in turn are not known: mlp_only_layers, decoder_sparse_step"
            )
        return Experts(
            n_experts=_size(keys, "num_experts"),
            per_token=_size(keys, "num_experts_per_tok"),
            d_expert=_size(keys, "moe_intermediate_size"),
        )
    if family == "deepseek_v3":
        return Experts(
            n_experts=_size(keys, "n_routed_experts"),
            per_token=_size(keys, "num_experts_per_tok"),
            d_expert=_size(keys, "moe_intermediate_size"),
            n_shared=keys.get("n_shared_experts") or 0,
            n_dense_layers=keys.get("first_k_dense_replace") or 0,
            router_bias=True,
        )
    return None


def _latent(keys):
    return LatentAttention(
        kv_rank=_size(keys, "kv_lora_rank"),
        d_nope=_size(keys, "qk_nope_head_dim"),
        d_rope=_size(keys, "qk_rope_head_dim"),
        d_value=_size(keys, "v_head_dim"),
        query_rank=keys.get("q_lora_rank"),
    )


def _size(keys, name, default=None):
    value = keys.get(name, default)
    if value is None:
        raise ValueError(f"{name} is missing")
    return value
