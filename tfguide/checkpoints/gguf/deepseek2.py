"""The architecture "deepseek2" of GGUF files: latent attention and experts of DeepSeek-V2 and V3, as llama.cpp has it.

The norms of latents add 1e-6, as in transformers; llama.cpp adds there what it adds in the other norms, whose number
the file holds. It computes no bias of the attention, and wants a shared expert beside every mixture.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf import llama
from tfguide.checkpoints.gguf.container import GgufFile
from tfguide.checkpoints.gguf.keys import required
from tfguide.checkpoints.gguf.layout import Absorbed, Place, linear
from tfguide.checkpoints.gguf.scaling import read_scaling
from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor
from tfguide.parts import Experts, LatentAttention
from tfguide.scalings import YarnScaling
from tfguide.weights import weight_table

ARCHITECTURE = "deepseek2"
READS = "DeepSeek-V2 and V3, and what has their layers"
SKIPPED = re.compile("(?!)")  # nothing
BESIDE: frozenset[str] = frozenset()

_ROUTERS = {"softmax": 1, "sigmoid": 2}  # llama.cpp's numbers
_WITHOUT_RANK = (26, 27)  # layers of models in which llama.cpp takes the queries to have no rank, whatever a file says
_MULTIPLIER = "rope.scaling.yarn_log_multiplier"  # a tenth of mscale_all_dim


def config_from_gguf(fields: Fields, file: GgufFile) -> ModelConfig:
    """The configuration in the metadata; the tensors tell whether the head is tied and the choice of experts biased."""
    latent, n_heads = _latent(fields), required(fields, f"{ARCHITECTURE}.attention.head_count")
    _check_rows(file, "attn_kv_a_mqa", latent.kv_rank + latent.d_rope)
    _check_rows(file, "attn_q" if latent.query_rank is None else "attn_q_b", n_heads * latent.d_head)
    n_layers = required(fields, f"{ARCHITECTURE}.block_count")
    for key, meaning in (
        ("nextn_predict_layers", "no module that drafts tokens"),
        ("attention.temperature_scale", "scores that do not depend on the position"),
    ):
        fields.fixed(f"{ARCHITECTURE}.{key}", 0, meaning)
    scale, scaling = _scaling(fields, file, latent)
    return llama.decoder(
        fields,
        file,
        n_layers=n_layers,
        n_heads=n_heads,
        latent=latent,
        d_head=latent.d_head,
        d_rotary=latent.d_rope,
        rope_scaling=scaling,
        attention_scale=scale,
        experts=_experts(fields, file, n_layers),
        qkv_bias=False,
        output_bias=False,
        ffn_bias=False,
    )


def metadata(config: ModelConfig) -> dict[str, Any]:
    """The keys of a configuration; what the architecture cannot express is not in them."""
    latent, experts = config.latent, config.experts
    if latent is None:
        raise ValueError("latent=None, and this architecture has latent attention")
    if latent.query_rank is not None and config.n_layers in _WITHOUT_RANK:
        raise ValueError(f"llama.cpp reads no query_rank where n_layers is {config.n_layers}, got {latent.query_rank}")
    dense = config.n_layers if experts is None else experts.n_dense_layers
    own = {
        "attention.head_count_kv": 1,  # in the absorbed form, which llama.cpp computes
        "attention.key_length": latent.kv_rank + latent.d_rope,
        "attention.value_length": latent.kv_rank,
        "attention.key_length_mla": latent.d_head,
        "attention.value_length_mla": latent.d_value,
        "attention.kv_lora_rank": latent.kv_rank,
        "attention.q_lora_rank": latent.query_rank or 0,
        "leading_dense_block_count": dense,
        "expert_feed_forward_length": config.d_ff if experts is None else experts.d_expert,
        "expert_shared_count": 0 if experts is None else experts.n_shared,
    }
    own |= _expert_keys(experts) if dense < config.n_layers else {}
    own |= _yarn_keys(config)
    return llama.keys(config, ARCHITECTURE) | {f"{ARCHITECTURE}.{key}": value for key, value in own.items()}


def beside(config: ModelConfig) -> dict[str, np.ndarray]:
    """The float32 tensors of a configuration that are no weights: none."""
    return {}


def places(config: ModelConfig) -> dict[str, Place | Absorbed]:
    """Where each canonical weight lies: as in Llama, but for the attention and the experts."""
    latent, places = config.latent, llama.places(config)
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}.self_attention", f"blk.{layer}.attn"
        for part, name in (("query_down", "q_a"), ("query_norm", "q_a_norm"), ("key_value_norm", "kv_a_norm")):
            places[f"{ours}.{part}.weight"] = Place(f"{theirs}_{name}.weight")
        queries = dict(heads=config.n_heads, first=latent.d_nope)
        places[f"{ours}.query.weight"] = Place(f"{theirs}_q.weight", **queries)
        places[f"{ours}.query_up.weight"] = Place(f"{theirs}_q_b.weight", **queries)
        places[f"{ours}.key_value_down.weight"] = Place(f"{theirs}_kv_a_mqa.weight", heads=1, first=latent.kv_rank)
        parts = (f"{theirs}_{name}.weight" for name in ("k_b", "v_b", "kv_b"))
        places[f"{ours}.key_value_up.weight"] = Absorbed(*parts, config.n_heads, latent.d_nope)
        ours, theirs = f"decoder.layers.{layer}.feed_forward", f"blk.{layer}"
        places[f"{ours}.router.correction_bias"] = Place(f"{theirs}.exp_probs_b.bias")
        for part in ("gate", "up", "down"):
            places |= linear(f"{ours}.shared.{part}", f"{theirs}.ffn_{part}_shexp", config.ffn_bias)
    return {name: place for name, place in places.items() if name in weight_table(config)}


def _latent(fields) -> LatentAttention:
    """The sizes of the attention; in old files those of a head are under the names that other architectures have."""
    name = f"{ARCHITECTURE}.attention"
    query_rank = fields.count(f"{name}.q_lora_rank", 0, least=0) or None
    kv_rank, d_rope = required(fields, f"{name}.kv_lora_rank"), required(fields, f"{ARCHITECTURE}.rope.dimension_count")
    mqa = fields.has(f"{name}.key_length_mla")
    absorbed = {part: fields.count(f"{name}.{part}_length", None) for part in ("key", "value")}
    fields.count(f"{name}.head_count_kv", None)  # of the absorbed form, or that of the queries
    d_head, d_value = (
        required(fields, f"{name}.{part}_length_mla") if mqa else absorbed[part] for part in ("key", "value")
    )
    if d_head is None or d_value is None or d_head <= d_rope:
        raise ValueError(
            f"{name}.key_length_mla and value_length_mla must be the sizes of a head's key, above "
            f"rope.dimension_count={d_rope}, and value, got {d_head} and {d_value}"
        )
    return LatentAttention(
        kv_rank=kv_rank, d_nope=d_head - d_rope, d_rope=d_rope, d_value=d_value, query_rank=query_rank
    )


def _check_rows(file, part, wanted):
    name = f"blk.0.{part}.weight"
    if name not in file.tensors:
        raise ValueError(f"missing tensor {name!r}")
    rows = file.tensors[name].shape[0]
    if rows != wanted:
        raise ValueError(f"tensor {name!r} must have {wanted} rows, as the sizes of the attention say, got {rows}")


def _experts(fields, file, n_layers) -> Experts | None:
    """The mixture; None where every layer is dense."""
    name = ARCHITECTURE
    dense = fields.count(f"{name}.leading_dense_block_count", 0, least=0)
    router = fields.look(f"{name}.expert_gating_func", 1)  # absent in files of DeepSeek-V2
    fields.count(f"{name}.expert_gating_func", None, least=0)
    sizes = dict(
        n_experts=fields.count(f"{name}.expert_count", 0, least=0),
        per_token=fields.count(f"{name}.expert_used_count", 0, least=0),
        d_expert=required(fields, f"{name}.expert_feed_forward_length"),
        n_shared=fields.count(f"{name}.expert_shared_count", 0, least=0),
        n_groups=fields.count(f"{name}.expert_group_count", 1, least=0) or 1,
        groups_per_token=fields.count(f"{name}.expert_group_used_count", 1, least=0) or 1,
        normalised=fields.flag(f"{name}.expert_weights_norm", False),
        scale=fields.number(f"{name}.expert_weights_scale", 1.0) or 1.0,
    )
    if dense >= n_layers:
        return None
    routers = {number: kind for kind, number in _ROUTERS.items()}
    if router not in routers or (sizes["n_groups"] > 1 and routers[router] == "softmax"):
        raise fields.unsupported(
            f"{name}.expert_gating_func", router, "expected 1, a softmax without groups, or 2, a sigmoid"
        )
    bias = f"blk.{dense}.exp_probs_b.bias" in file.tensors
    return Experts(**sizes, n_dense_layers=dense, router=routers[router], correction_bias=bias)


def _expert_keys(experts):
    if experts.n_shared == 0:
        raise ValueError("n_shared=0, and llama.cpp wants a shared expert in this architecture")
    if 1 < experts.n_groups == experts.groups_per_token:
        raise ValueError(f"llama.cpp wants fewer groups_per_token than n_groups={experts.n_groups}")
    groups = {"expert_group_count": experts.n_groups, "expert_group_used_count": experts.groups_per_token}
    return {
        "expert_count": experts.n_experts,
        "expert_used_count": experts.per_token,
        "expert_gating_func": _ROUTERS[experts.router],
        "expert_weights_norm": experts.normalised,
        "expert_weights_scale": experts.scale,
    } | (groups if experts.n_groups > 1 else {})


def _scaling(fields, file, latent):
    """What multiplies the scores, and YaRN's numbers or None: cosines and sines by a, scores by (a (1 + m ln(f)))^2.

    m is the multiplier in the file, f the factor. Published models have a = 1, and m = 0.1 `mscale_all_dim`.
    """
    key = f"{ARCHITECTURE}.rope.scaling"
    theta = fields.look(f"{ARCHITECTURE}.rope.freq_base", 10_000.0)
    multiplier, own = fields.number(f"{ARCHITECTURE}.{_MULTIPLIER}", 0.0), fields.number(f"{key}.attn_factor", 1.0)
    scale, scaling = 1.0 / math.sqrt(latent.d_head), read_scaling(fields, file, latent.d_rope, theta)
    if scaling is None:
        return scale, None
    if not isinstance(scaling, YarnScaling) or scaling.factor <= 1.0 or multiplier == 0.0:
        raise ValueError(
            f"{key}.type must be 'yarn' with a factor above 1, and {ARCHITECTURE}.{_MULTIPLIER} not 0, or else "
            f"llama.cpp scales the scores in a way that no model has; got {scaling} and {multiplier}"
        )
    multiplier = round(10.0 * multiplier, 7)
    if own == 1.0:
        scaling = dataclasses.replace(scaling, mscale=multiplier, mscale_all_dim=multiplier)
    else:
        scaling = dataclasses.replace(scaling, attention_factor=own)
    sharpened = scale * (own * (0.1 * multiplier * math.log(scaling.factor) + 1.0)) ** 2
    return (scale if math.isclose(scale, sharpened, rel_tol=1e-6) else sharpened), scaling  # by way of float32


def _yarn_keys(config):
    scaling, d_head = config.rope_scaling, config.d_head
    if not isinstance(scaling, YarnScaling) or scaling.factor <= 1.0:
        return {}
    own = attention_factor(scaling)
    multiplier = (math.sqrt(config.attention_scale * math.sqrt(d_head)) / own - 1.0) / math.log(scaling.factor)
    return {"rope.scaling.attn_factor": own, _MULTIPLIER: multiplier}
