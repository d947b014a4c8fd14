"""RoBERTa: BERT with other positions, as `transformers.RobertaModel` computes it (version 5.23).

The position of a token is the number of tokens before it that are no padding, and the table of positions begins with
the rows of the padding token's number and below. So a padding token inside a text, which no tokeniser makes, counts as
a token here, and not there.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tfguide.checkpoints import bert
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.labels import label_head
from tfguide.checkpoints.layout import Place, linear
from tfguide.config import ModelConfig

MODEL_TYPE = "roberta"
ARCHITECTURE = "RobertaModel"
PREFIX, UNPREFIXED = bert.PREFIX, bert.UNPREFIXED
READS = "the encoder, its pooler where there is one, and the heads of RobertaFor(Sequence|Token)Classification"
HEADS = bert.HEADS
SKIPPED = re.compile(r"embeddings\.(position_ids|token_type_ids)|lm_head\..*")
INERT = bert.INERT

DEFAULTS = bert.DEFAULTS | dict(vocab_size=50265, pad_token_id=1)
ALIASES: dict[str, str] = {}


def plain(name: str) -> str:
    """A tensor's name in RobertaModel, from its name in a model with a head and from TensorFlow's names for norms."""
    return bert.plain(name.removeprefix("roberta."))


def sizes(fields: Fields) -> dict[str, Any]:
    """The fields of a ModelConfig that decide the shapes of the weights and of the cache, from a config.json."""
    padding = fields.count("pad_token_id", DEFAULTS["pad_token_id"], least=0)
    known = bert.sizes(fields, DEFAULTS)
    positions = known["max_positions"] - padding - 1
    if positions < 1:
        raise fields.unsupported(
            "max_position_embeddings", known["max_positions"], f"expected more than pad_token_id + 1 = {padding + 1}"
        )
    return known | dict(max_positions=positions, position_offset=padding + 1, pad_token_id=padding)


def config_from_hf(fields: Fields, tensors: Collection[str]) -> ModelConfig:
    """The configuration in a config.json; the tensors tell whether there is a pooler."""
    bert.leave_out_head(fields, tensors, "lm_head.")
    head = label_head(fields, "Roberta")
    pooler = "classifier.dense.weight" if head is not None and head.per == "text" else "pooler.dense.weight"
    return bert.encoder(fields, sizes(fields), tensors, head, pooler, bos_token_id=0, eos_token_id=2)


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The keys of a config.json; what RoBERTa cannot express is not in them."""
    keys = bert.config_to_hf(config, "Roberta")
    return keys | {"max_position_embeddings": keys["max_position_embeddings"] + config.position_offset}


def places(config: ModelConfig) -> dict[str, Place]:
    """Where each canonical weight lies; the head for the labels of a text has the pooler in it."""
    found = bert.places(config)
    if config.labels is not None and config.labels.per == "text":
        found |= dict(linear("pooler", "classifier.dense")) | dict(linear("labels", "classifier.out_proj"))
    return found
