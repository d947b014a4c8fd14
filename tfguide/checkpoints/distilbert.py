"""DistilBERT: BERT without token types and without a pooler, as `transformers.DistilBertModel` computes it (5.23)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import bert
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import ACTIVATIONS
from tfguide.checkpoints.layout import Place, linear, norm
from tfguide.config import ModelConfig

MODEL_TYPE = "distilbert"
ARCHITECTURE = "DistilBertModel"
PREFIX, UNPREFIXED = "", ()
READS = "DistilBertModel: the encoder"
HEADS = ("pre_classifier", "classifier", "qa_outputs")
SKIPPED = re.compile(r"embeddings\.position_ids|vocab_(transform|layer_norm|projector)\..*")

# What the class reads for training, or for its heads, or to initialise a table that the file holds; the last: a key of
# published files that version 5 does not read.
INERT = (
    "attention_dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_word_embeddings",
    "tie_weights_",
)  # fmt: skip

DEFAULTS = dict(vocab_size=30522, dim=768, n_layers=6, n_heads=12, hidden_dim=3072, max_position_embeddings=512)
ALIASES = dict(hidden_size="dim", num_attention_heads="n_heads", num_hidden_layers="n_layers")


def plain(name: str) -> str:
    """A tensor's name in DistilBertModel, from its name in a model with a head."""
    return name.removeprefix("distilbert.")


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    for other, key in ALIASES.items():
        fields.alias(other, key)

    def count(key):
        return fields.count(key, DEFAULTS[key])

    return dict(
        kind="encoder",
        d_model=count("dim"),
        n_layers=count("n_layers"),
        n_heads=count("n_heads"),
        d_ff=count("hidden_dim"),
        vocab_size=count("vocab_size"),
        max_positions=count("max_position_embeddings"),
        norm_placement="post",
        embedding_norm=True,
        positions="learned",
    )


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json; the number in the norms is no key of it."""
    bert.leave_out_head(fields, tensors, "vocab_")
    bert.check_both_sides(fields)
    known = sizes(fields)
    config = ModelConfig(
        **known,
        norm_eps=1e-12,
        activation=fields.choice("activation", "gelu", ACTIVATIONS),
        dropout=fields.dropout("dropout", 0.1),
        **fields.token_ids(known["vocab_size"], pad_token_id=0),
    )
    fields.finish(INERT)
    return config


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what DistilBERT cannot express is not in them."""
    return {
        "vocab_size": config.vocab_size,
        "dim": config.d_model,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "hidden_dim": config.d_ff,
        "activation": {"gelu_tanh": "gelu_new", "relu": "relu"}.get(config.activation, "gelu"),
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "max_position_embeddings": config.max_positions or 512,
    }


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies."""
    return dict(_places(config))


def _places(config):
    yield "embedding.token.weight", Place("embeddings.word_embeddings.weight")
    yield "embedding.position.weight", Place("embeddings.position_embeddings.weight")
    yield from norm("embedding.norm", "embeddings.LayerNorm")
    for layer in range(config.n_layers):
        ours, theirs = f"encoder.layers.{layer}", f"transformer.layer.{layer}"
        for part, name in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "out")):
            yield from linear(f"{ours}.self_attention.{part}", f"{theirs}.attention.{name}_lin")
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.sa_layer_norm")
        yield from linear(f"{ours}.feed_forward.up", f"{theirs}.ffn.lin1")
        yield from linear(f"{ours}.feed_forward.down", f"{theirs}.ffn.lin2")
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.output_layer_norm")
