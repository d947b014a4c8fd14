"""T5, version 1.0 and 1.1, as `transformers.T5ForConditionalGeneration` computes it (version 5.23)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import ACTIVATIONS, GATES
from tfguide.checkpoints.layout import Place, linear, norm
from tfguide.config import ModelConfig

MODEL_TYPE = "t5"
ARCHITECTURE = "T5ForConditionalGeneration"
PREFIX, UNPREFIXED = "", ()
READS = "T5Model and T5ForConditionalGeneration"
HEADS = ("classification_head", "classifier", "qa_outputs")
# The first T5 files hold a bias for cross-attention that no T5 uses.
SKIPPED = re.compile(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight")

# T5 looks up distances, not positions: a number of positions is what it was trained on, not a limit.
INERT = ("initializer_factor", "classifier_dropout", "n_positions", "max_position_embeddings", "is_decoder")
DEFAULTS = dict(
    vocab_size=32128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=None, num_heads=8,
    relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="relu",
    tie_word_embeddings=True,
)  # fmt: skip
ALIASES = dict(hidden_size="d_model", num_attention_heads="num_heads", num_hidden_layers="num_layers", head_dim="d_kv")
_EMBEDDINGS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
# "gated-gelu" is T5 1.1 and means the tanh form; the exact form under a gate goes by "gelu_python".
_PROJECTIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "swiglu": "gated-silu",
    "geglu": "gated-gelu_python",
    "geglu_tanh": "gated-gelu",
}


def plain(name: str) -> str:
    """A tensor's name in T5Model, from its name in a model that wraps one."""
    return name.removeprefix("transformer.")


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json.

    Of the activation only whether it is gated, since that is a matrix more; null for the tied head is as if absent.
    """
    for other, key in ALIASES.items():
        fields.alias(other, key)

    def count(key):
        return fields.count(key, DEFAULTS[key])

    n_encoder_layers = count("num_layers")
    return dict(
        kind="encoder-decoder",
        d_model=count("d_model"),
        d_head=count("d_kv"),
        d_ff=count("d_ff"),
        n_heads=count("num_heads"),
        n_encoder_layers=n_encoder_layers,
        n_layers=count("num_decoder_layers") or n_encoder_layers,
        vocab_size=count("vocab_size"),
        norm="rms",
        positions="relative",
        relative_buckets=count("relative_attention_num_buckets"),
        relative_max_distance=count("relative_attention_max_distance"),
        activation="geglu" if _is_gated(fields.look("feed_forward_proj", DEFAULTS["feed_forward_proj"])) else "relu",
        qkv_bias=False,
        output_bias=False,
        ffn_bias=False,
        tied_head=fields.flag("tie_word_embeddings", DEFAULTS["tie_word_embeddings"], null=True),
    )


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json; the tensors tell whether the head is tied (see `_head`)."""
    fields.fixed("is_encoder_decoder", True, "an encoder and a decoder")
    fields.fixed("is_causal", None, "an encoder that sees both sides and a decoder that does not")
    known = sizes(fields)
    tied_head, scaled = _head(fields, known["tied_head"], tensors)
    known |= dict(
        norm_eps=fields.number("layer_norm_epsilon", 1e-6),
        activation=_activation(fields),
        attention_scale=1.0,
        logit_scale=known["d_model"] ** -0.5 if scaled else 1.0,
        tied_head=tied_head,
        dropout=fields.dropout("dropout_rate", 0.1),
    )
    config = ModelConfig(**known, **fields.token_ids(known["vocab_size"], pad_token_id=0, eos_token_id=1))
    fields.finish(INERT)
    return config


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what T5 cannot express is not in them."""
    return {
        "vocab_size": config.vocab_size,
        "d_model": config.d_model,
        "d_kv": config.d_head,
        "d_ff": config.d_ff,
        "num_layers": config.n_encoder_layers or config.n_layers,
        "num_decoder_layers": config.n_layers,
        "num_heads": config.n_heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_max_distance,
        "feed_forward_proj": _PROJECTIONS[config.activation],
        "dropout_rate": config.dropout,
        "layer_norm_epsilon": config.norm_eps,
        "is_encoder_decoder": True,
        "tie_word_embeddings": config.tied_head,
        "scale_decoder_outputs": config.d_model == 1 or not math.isclose(config.logit_scale, 1.0),
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _head(fields: Fields, tied: bool, tensors: Collection[str]) -> tuple[bool, bool]:
    """Whether the head is the embedding, and whether its input is scaled by 1 / sqrt(D), given `tie_word_embeddings`.

    Until transformers 4, `tie_word_embeddings` said both. Version 5 writes it as true whatever the model is: it says
    the scale in `scale_decoder_outputs`, and a head of its own is there or it is not.
    """
    if not fields.has("scale_decoder_outputs"):
        return tied, tied
    return tied and "lm_head.weight" not in tensors, fields.flag("scale_decoder_outputs", True)


def _is_gated(feed_forward_proj: Any) -> bool:
    return str(feed_forward_proj).startswith("gated-")


def _activation(fields: Fields) -> str:
    """What `feed_forward_proj` stands for; `is_gated_act` and `dense_act_fn`, which follow from it, must agree."""
    names = {name: name for name in ACTIVATIONS} | {f"gated-{name}": name for name in GATES}
    names["gated-gelu"] = "gelu_new"  # T5 1.1 called it so before the two forms had names
    gated = _is_gated(fields.look("feed_forward_proj", DEFAULTS["feed_forward_proj"]))
    function = fields.choice("feed_forward_proj", DEFAULTS["feed_forward_proj"], names)
    known = GATES if gated else ACTIVATIONS
    fields.fixed("is_gated_act", gated, "as feed_forward_proj says")
    if fields.has("dense_act_fn"):
        same = [name for name in known if known[name] == known[function]]
        fields.choice("dense_act_fn", function, dict.fromkeys(same))
    return known[function]


def _places(config):
    copies = (*_EMBEDDINGS, "lm_head.weight") if config.tied_head else _EMBEDDINGS
    yield "embedding.token.weight", Place("shared.weight", copies=copies)
    for stack, n_layers in (("encoder", config.n_encoder_layers or config.n_layers), ("decoder", config.n_layers)):
        table = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield f"{stack}.relative_bias.weight", Place(table)
        for layer in range(n_layers):
            yield from _block(config, f"{stack}.layers.{layer}", f"{stack}.block.{layer}", stack == "decoder")
        yield from norm(f"{stack}.final_norm", f"{stack}.final_layer_norm", bias=False)
    if not config.tied_head:
        yield "head.weight", Place("lm_head.weight", transposed=True)


def _block(config, ours, theirs, crosses):
    attentions = [("self_attention", "SelfAttention")] + [("cross_attention", "EncDecAttention")] * crosses
    for i, (attention, module) in enumerate(attentions):
        yield from norm(f"{ours}.{attention}_norm", f"{theirs}.layer.{i}.layer_norm", bias=False)
        for part in ("query", "key", "value", "output"):
            yield from linear(f"{ours}.{attention}.{part}", f"{theirs}.layer.{i}.{module}.{part[0]}", bias=False)
    last = f"{theirs}.layer.{len(attentions)}"
    yield from norm(f"{ours}.feed_forward_norm", f"{last}.layer_norm", bias=False)
    names = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if config.gated else {"up": "wi", "down": "wo"}
    for part, name in names.items():
        yield from linear(f"{ours}.feed_forward.{part}", f"{last}.DenseReluDense.{name}", bias=False)
