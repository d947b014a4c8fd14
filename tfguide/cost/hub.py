"""A model for the cost model, by the name of a preset or from the config.json of Hugging Face.

What `tfguide.checkpoints` reads of a config.json is read there. Here are the families whose costs are known and whose
layers are not implemented: they have the keys of Llama, other defaults, and windows, experts or a latent attention.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.folder import CONFIG, read_object
from tfguide.checkpoints.reading import FAMILIES
from tfguide.checks.values import nearest
from tfguide.config import ModelConfig
from tfguide.parts import Experts, LatentAttention
from tfguide.presets import PRESETS

_LLAMA = {key: value for key, value in llama.DEFAULTS.items() if not key.endswith("_bias")}

#: What each family's class in transformers (5.23) fills in for a key that is absent, of the keys that change a cost.
DEFAULTS: dict[str, dict[str, Any]] = {
    "deepseek_v3": _LLAMA | dict(
        vocab_size=129280, hidden_size=7168, intermediate_size=18432, num_hidden_layers=61, num_attention_heads=128,
        num_key_value_heads=128, max_position_embeddings=4096, attention_bias=False, n_routed_experts=256,
        num_experts_per_tok=8, moe_intermediate_size=2048, n_shared_experts=1, first_k_dense_replace=3,
        kv_lora_rank=512, q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    ),
} | {name: family.DEFAULTS for name, family in FAMILIES.items()}  # fmt: skip

#: Other names of a key, which the class takes as well.
ALIASES: dict[str, dict[str, str]] = {name: family.ALIASES for name, family in FAMILIES.items()} | {
    "deepseek_v3": dict(num_local_experts="n_routed_experts"),
}

# Version 4 of transformers wrote null for these and took it for false, and for no limit of the positions.
_NULLABLE = ("max_position_embeddings", "attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window")


def find_model(name: str | os.PathLike) -> ModelConfig:
    """A preset by its name, or what a config.json says: a path to the file, or to the folder that it is in.

    What is read is what the family's class in transformers reads, with its defaults, and of that only what changes a
    cost; everything else is passed over. Raises ValueError for a name that is neither, with the nearest presets, for a
    file that is not JSON, and for a family that is unknown or a size that cannot be.
    """
    if str(name) in PRESETS:
        return ModelConfig.from_preset(str(name))
    path = Path(name)
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{str(name)!r} is no preset, and no config.json is there; `tfguide models` lists the presets"
            f"{nearest(str(name), PRESETS)}"
        )
    return config_from_keys(read_object(file), str(file))


def config_from_keys(keys: Mapping[str, Any], source: str = CONFIG) -> ModelConfig:
    """The sizes in the keys of a config.json. source: what errors call the file. Raises ValueError as `find_model`."""
    family = keys.get("model_type")
    if not isinstance(family, str) or family not in DEFAULTS:
        raise ValueError(
            f"{source}: model_type={family!r} is not known{nearest(str(family), DEFAULTS)}; "
            f"known are {', '.join(DEFAULTS)}"
        )
    aliases = ALIASES.get(family, {})
    # Where a file has a key by both of its names, its own name counts.
    fields = Fields({k: v for k, v in keys.items() if aliases.get(k) not in keys}, source, nullable=_NULLABLE)
    with fields.named_errors():
        if family in FAMILIES:
            return ModelConfig(**FAMILIES[family].sizes(fields))
        for other, key in aliases.items():
            fields.alias(other, key)
        return ModelConfig(**_sizes(fields, family, DEFAULTS[family]))


def _sizes(fields, family, defaults):
    known = llama.sizes(fields, defaults)
    if family == "deepseek_v3":
        latent = _latent(fields, defaults)
        known |= dict(latent=latent, d_head=None, n_kv_heads=None)  # which follow from it
    return known | dict(experts=_experts(fields, defaults, family, known))


def _experts(fields, defaults, family, known):
    def count(key, **how):
        return fields.count(key, defaults[key], **how)

    if family != "deepseek_v3":
        return None
    return Experts(
        n_experts=count("n_routed_experts"),
        per_token=count("num_experts_per_tok"),
        d_expert=count("moe_intermediate_size"),
        n_shared=count("n_shared_experts", least=0, null=True) or 0,
        n_dense_layers=min(count("first_k_dense_replace", least=0, null=True) or 0, known["n_layers"]),
        router="sigmoid",
        correction_bias=True,
    )


def _latent(fields, defaults):
    def count(key):
        return fields.count(key, defaults[key])

    return LatentAttention(
        kv_rank=count("kv_lora_rank"),
        d_nope=count("qk_nope_head_dim"),
        d_rope=count("qk_rope_head_dim"),
        d_value=count("v_head_dim"),
        query_rank=fields.count("q_lora_rank", defaults["q_lora_rank"], null=True),
    )
