"""Gemma 3 for text: windows by layer, norms on both sides, as `transformers.Gemma3ForCausalLM` has it (5.23)."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from tfguide.checkpoints import llama
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import GATES
from tfguide.checkpoints.layout import Place, norm
from tfguide.checkpoints.rotary import longest, rotation
from tfguide.checkpoints.windows import FULL, SLIDING, layer_types
from tfguide.config import ModelConfig
from tfguide.scalings import Scaling

MODEL_TYPE = "gemma3_text"
ARCHITECTURE = "Gemma3ForCausalLM"
PREFIX, UNPREFIXED = llama.PREFIX, llama.UNPREFIXED
READS = "Gemma3TextModel and Gemma3ForCausalLM"
HEADS = llama.HEADS
SKIPPED = llama.SKIPPED
INERT = ("attention_dropout", "is_decoder", "_sliding_window_pattern")

DEFAULTS = llama.DEFAULTS | dict(
    vocab_size=262208, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
    num_key_value_heads=4, head_dim=256, max_position_embeddings=131072, tie_word_embeddings=True,
    sliding_window=4096, layer_types=None, sliding_window_pattern=6,
)  # fmt: skip
del DEFAULTS["mlp_bias"]
ALIASES: dict[str, str] = {}
WITH_IMAGES = "gemma3"  # the model_type of a model that reads images too, and has this one inside
_OUTSIDE = ("eos_token_id", "bos_token_id", "pad_token_id", "tie_word_embeddings")  # said of the whole model


def plain(name: str) -> str:
    """A tensor's name in Gemma3TextModel, from its name in a model with a head or in one that reads images too."""
    return re.sub(r"^(model\.language_model|language_model\.model|language_model|model)\.", "", name)


def text_keys(keys: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The keys of the text model inside a model that reads images too. Raises ValueError where there are none."""
    inside = keys.get("text_config")
    if not isinstance(inside, dict):
        raise ValueError(f"{source}: text_config must be an object with the keys of the text model, got {inside!r}")
    outside = {key: keys[key] for key in _OUTSIDE if keys.get(key) is not None}
    return {"model_type": MODEL_TYPE} | inside | outside


def text_tensors(tensors: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The tensors by their names, without those that read images, of which it warns."""
    warnings.warn(f"{source}: the part that reads images is left out: only texts are read here", stacklevel=2)
    images = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")
    return {name: tensor for name, tensor in tensors.items() if not images.fullmatch(name)}


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    known = llama.sizes(fields, DEFAULTS)
    return known | dict(norm_placement="both", qk_norm=True, embedding_scale=math.sqrt(known["d_model"]))


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json."""
    fields.fixed("is_encoder_decoder", False, "a decoder alone")
    fields.fixed("is_causal", True, "a decoder that sees what came before", null=False)
    for name in ("_rope_type_labels", "default_rope_type"):
        fields.fixed(name, None, "kinds of rotation by their usual names")
    fields.fixed("use_bidirectional_attention", False, "a decoder that sees what came before")
    fields.look("sliding_window", DEFAULTS["sliding_window"])  # which may be unused, but not null
    known = sizes(fields)
    if fields.number("attn_logit_softcapping", None, null=True) is not None:
        fields.pass_over("attn_logit_softcapping", "the class does not apply it")
    known |= _rotation(fields, known)
    known |= dict(
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        attention_scale=fields.count("query_pre_attn_scalar", 256) ** -0.5,
        logit_softcap=fields.number("final_logit_softcapping", None, null=True),
        activation=fields.choice("hidden_activation", "gelu_pytorch_tanh", GATES),
        dropout=fields.dropout("resid_pdrop", 0.0),
    )
    tokens = fields.token_ids(known["vocab_size"], pad_token_id=0, bos_token_id=2, eos_token_id=1)
    config = ModelConfig(**known, **tokens)
    fields.finish(INERT)
    return config


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what Gemma 3 cannot express is not in them."""
    if config.d_model % config.n_heads:
        raise ValueError(f"transformers wants n_heads={config.n_heads} to divide d_model={config.d_model}")
    keys = llama.keys(config)
    local = config.rope_theta if config.local_rope_theta is None else config.local_rope_theta
    return keys | {
        "hidden_activation": keys.pop("hidden_act"),
        "rope_parameters": {
            FULL: keys["rope_parameters"],
            SLIDING: {"rope_type": "default", "rope_theta": local},
        },
        "attention_bias": config.qkv_bias,
        "query_pre_attn_scalar": max(1, round(config.attention_scale**-2)),
        "sliding_window": config.sliding_window or 4096,  # the class wants a number, used or not
        "layer_types": layer_types(config),
        "final_logit_softcapping": config.logit_softcap,
        "attn_logit_softcapping": None,
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies. The norms scale by 1 + w there, and by the weight here."""
    return dict(_places(config))


def _rotation(fields, known) -> dict[str, Any]:
    """The bases and the scaling of the two kinds of layers; older files have keys of their own for them."""
    bases = {FULL: fields.number("rope_theta", 1e6), SLIDING: fields.number("rope_local_base_freq", 1e4)}
    older, kinds = fields.inner("rope_scaling"), fields.inner("rope_parameters")
    found = {kind: kinds and kinds.inner(kind) for kind in (FULL, SLIDING)}
    if kinds is not None:
        kinds.finish()
    if older is not None:
        if found[FULL] is not None:
            raise ValueError(f"{fields.source}: rope_scaling and rope_parameters.{FULL} are two of one: expected one")
        if not older.has("rope_type"):  # the older name of this key has no effect there
            raise ValueError(f"{fields.source}: rope_scaling must have a rope_type, got none")
        found[FULL] = older
    scalings: dict[str, Scaling | None] = {}
    for kind, rope in found.items():
        bases[kind], scalings[kind] = (
            (bases[kind], None) if rope is None else rotation(fields, rope, bases[kind], known["max_positions"])
        )
    if scalings[SLIDING] is not None:
        scaling = scalings[SLIDING]
        raise ValueError(f"{fields.source}: rope_parameters.{SLIDING} must have no scaling, got {scaling}")
    local = None if known["sliding_window"] is None else bases[SLIDING]
    most = longest(scalings[FULL], known["max_positions"])
    return dict(rope_theta=bases[FULL], rope_scaling=scalings[FULL], local_rope_theta=local, max_positions=most)


def _places(config):
    for name, place in llama.places(config).items():
        if not name.endswith("norm.weight"):
            yield name, place
    for layer in range(config.n_layers):
        ours, theirs = f"decoder.layers.{layer}", f"layers.{layer}"
        for part, name in _NORMS.items():
            yield from norm(f"{ours}.{part}", f"{theirs}.{name}", bias=False, plus=1.0)
    yield from norm("decoder.final_norm", "norm", bias=False, plus=1.0)


_NORMS = {
    "self_attention_norm": "input_layernorm",
    "self_attention.query_norm": "self_attn.q_norm",
    "self_attention.key_norm": "self_attn.k_norm",
    "self_attention_post_norm": "post_attention_layernorm",
    "feed_forward_norm": "pre_feedforward_layernorm",
    "feed_forward_post_norm": "post_feedforward_layernorm",
}
