"""BERT: an encoder with norms after the sublayers, as `transformers.BertModel` computes it (version 5.23)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import ACTIVATIONS
from tfguide.checkpoints.labels import label_head, label_keys
from tfguide.checkpoints.layout import Place, linear, norm
from tfguide.config import ModelConfig
from tfguide.parts import LabelHead

MODEL_TYPE = "bert"
ARCHITECTURE = "BertModel"
PREFIX, UNPREFIXED = "", ()
READS = "the encoder, its pooler where there is one, and the heads of BertFor(Sequence|Token)Classification"
HEADS = ("classifier", "qa_outputs")
SKIPPED = re.compile(r"embeddings\.(position_ids|token_type_ids)|cls\..*")

# What the class reads for training, or for its heads; the last line: keys of bert-base-chinese and similar files,
# which no version of transformers reads.
_INERT = """
    attention_probs_dropout_prob classifier_dropout tie_word_embeddings
    directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
"""
INERT = frozenset(_INERT.split())

# What the class fills in for an absent key, of those that `sizes` reads; so in the other families.
DEFAULTS = dict(
    vocab_size=30522, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
    max_position_embeddings=512, type_vocab_size=2,
)  # fmt: skip
ALIASES: dict[str, str] = {}  # other names of a key, which the class takes as well


def plain(name: str) -> str:
    """A tensor's name in BertModel, from its name in a model with a head and from TensorFlow's names for norms."""
    name = name.removeprefix("bert.")
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: "LayerNorm." + ("weight" if m[1] == "gamma" else "bias"), name)


def sizes(fields: Fields, defaults: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json.

    defaults: those of a family with the keys of BERT.
    """

    def count(key):
        return fields.count(key, defaults[key])

    return dict(
        kind="encoder",
        d_model=count("hidden_size"),
        n_layers=count("num_hidden_layers"),
        n_heads=count("num_attention_heads"),
        d_ff=count("intermediate_size"),
        vocab_size=count("vocab_size"),
        max_positions=count("max_position_embeddings"),
        n_token_types=count("type_vocab_size"),
        norm_placement="post",
        embedding_norm=True,
        positions="learned",
    )


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json; the tensors tell whether there is a pooler."""
    leave_out_head(fields, tensors, "cls.")
    return encoder(fields, sizes(fields), tensors, label_head(fields, "Bert"), "pooler.dense.weight", pad_token_id=0)


def encoder(
    fields: Fields,
    known: dict[str, Any],
    tensors: Collection[str],
    labels: LabelHead | None,
    pooler: str,
    **tokens: int,
) -> ModelConfig:
    """The configuration in a config.json of a family with BERT's keys.

    known: the fields that `sizes` reads. pooler: the tensor that there is with a pooler. tokens: the family's defaults.
    Raises ValueError where a text has labels and no pooler.
    """
    check_both_sides(fields)
    fields.fixed("is_decoder", False, "an encoder that sees both sides")
    # Version 5 does not read this one: it computes what version 4 called absolute, whatever the file says.
    fields.fixed("position_embedding_type", "absolute", "a learned vector for each position")
    if labels is not None and labels.per == "text" and pooler not in tensors:
        raise fields.unsupported("architectures", fields.look("architectures", None), f"labels of a text need {pooler}")
    more = dict(
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        activation=fields.choice("hidden_act", "gelu", ACTIVATIONS),
        pooler=pooler in tensors,
        labels=labels,
        dropout=fields.dropout("hidden_dropout_prob", 0.1),
    )
    config = ModelConfig(**fields.token_ids(known["vocab_size"], **tokens) | known | more)
    fields.finish(INERT)
    return config


def check_both_sides(fields: Fields) -> None:
    """Refuse what is no encoder that sees both sides. Raises ValueError."""
    fields.fixed("is_encoder_decoder", False, "an encoder alone")
    fields.fixed("is_causal", False, "an encoder that sees both sides")


def leave_out_head(fields: Fields, tensors: Collection[str], *prefixes: str) -> None:
    """Warn that the tensors of a pretraining head, known by the beginnings of their names, are not read."""
    if any(name.startswith(prefixes) for name in tensors):
        names = ", ".join(f"{prefix}*" for prefix in prefixes)
        warnings.warn(
            f"{fields.source}: the pretraining head (tensors {names}) is left out: an encoder returns hidden states",
            stacklevel=2,
        )


def config_to_hf(config: ModelConfig, model: str = "Bert") -> dict[str, Any]:
    """The keys of a config.json; what BERT cannot express is not in them. model: how the names of classes begin."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_ff,
        "hidden_act": {"gelu_tanh": "gelu_new", "relu": "relu"}.get(config.activation, "gelu"),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": config.max_positions or 512,
        "type_vocab_size": config.n_token_types or 2,
        "layer_norm_eps": config.norm_eps,
        **label_keys(config, model),
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _places(config):
    for ours, theirs in (("token", "word"), ("position", "position"), ("token_type", "token_type")):
        yield f"embedding.{ours}.weight", Place(f"embeddings.{theirs}_embeddings.weight")
    yield from norm("embedding.norm", "embeddings.LayerNorm")
    for layer in range(config.n_layers):
        ours, theirs = f"encoder.layers.{layer}", f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            yield from linear(f"{ours}.self_attention.{part}", f"{theirs}.attention.self.{part}")
        yield from linear(f"{ours}.self_attention.output", f"{theirs}.attention.output.dense")
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.attention.output.LayerNorm")
        yield from linear(f"{ours}.feed_forward.up", f"{theirs}.intermediate.dense")
        yield from linear(f"{ours}.feed_forward.down", f"{theirs}.output.dense")
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.output.LayerNorm")
    if config.pooler:
        yield from linear("pooler", "pooler.dense")
    if config.labels is not None:
        yield from linear("labels", "classifier")
