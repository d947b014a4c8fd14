"""The metadata of a GGUF file as keys of a configuration, and what every architecture reads from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tfguide.checkpoints.fields import Fields, short
from tfguide.checkpoints.gguf.container import GgufFile

EMBEDDING = "token_embd.weight"

# Keys about the file and its making, and those of the tokeniser, which `tfguide.text` reads: none changes the logits.
_ELSEWHERE = ("general.", "tokenizer.", "quantize.", "split.")
_TYPE = "general.type"
_TOKENS = "tokenizer.ggml.tokens"


def fields_of(file: GgufFile, ignore: Iterable[str] = ()) -> Fields:
    """The keys of the metadata that say what the model computes.

    A float32 becomes the shortest decimal number that rounds to it, so that 1e-5 is read as 1e-5. A list that has one
    number for each layer, always the same, becomes that number. Raises ValueError for a file that holds no model.
    """
    keys = {key: _plain(value) for key, value in file.metadata.items() if not key.startswith(_ELSEWHERE)}
    if _TYPE in file.metadata:
        keys[_TYPE] = file.metadata[_TYPE]
    fields = Fields(keys, str(file.path), ignore, peer="llama.cpp")
    fields.fixed(_TYPE, "model", "a whole model: adapters are not applied, and other files hold no layers")
    return fields


def required(fields: Fields, key: str) -> int:
    """A whole number of at least 1. Raises ValueError where the key is absent too."""
    value = fields.count(key, None)
    if value is None:
        raise ValueError(f"{fields.source}: the metadata has no {key}, expected an integer of at least 1")
    return value


def required_number(fields: Fields, key: str) -> float:
    """A finite number. Raises ValueError where the key is absent too."""
    if not fields.has(key):
        raise ValueError(f"{fields.source}: the metadata has no {key}, expected a number")
    return fields.number(key, None)


def vocabulary(fields: Fields, file: GgufFile) -> int:
    """V, the rows of the embedding. Raises ValueError where the tokeniser or the metadata has another number."""
    if EMBEDDING not in file.tensors:
        raise ValueError(f"{fields.source}: missing tensor {EMBEDDING!r}")
    rows = file.tensors[EMBEDDING].shape[0]
    tokens = file.metadata.get(_TOKENS)
    if tokens is not None and not isinstance(tokens, list):
        raise ValueError(f"{fields.source}: {_TOKENS} must be a list of tokens, got {short(tokens)}")
    said = fields.count(f"{file.architecture}.vocab_size", None)
    for what, count in (("the tokeniser's vocabulary", tokens and len(tokens)), ("vocab_size", said)):
        if count and count != rows:
            raise ValueError(
                f"{fields.source}: {what} has {count} tokens, which does not fit the embedding {EMBEDDING!r} of {rows}"
            )
    return rows


def special_tokens(file: GgufFile, vocab_size: int) -> dict[str, Any]:
    """The special tokens, by the names that a ModelConfig gives them; several ends where a turn has an end of its own.

    Absent ones are None; llama.cpp takes fixed numbers for them, whatever the vocabulary has there. Warns where an id
    lies outside the vocabulary. Raises ValueError for an id that is not an integer.
    """
    said = file.metadata.get
    ends = [said(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    ends = [end for i, end in enumerate(ends) if end is not None and end not in ends[:i]]
    tokens = {
        "bos_token_id": said("tokenizer.ggml.bos_token_id"),
        "eos_token_id": ends if len(ends) > 1 else next(iter(ends), None),
        "pad_token_id": said("tokenizer.ggml.padding_token_id"),
    }
    given = {name: token for name, token in tokens.items() if token is not None}
    return Fields(given, str(file.path)).token_ids(vocab_size)


def _plain(value):
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        value = value[0]
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            single = np.float32(value)
        return float(str(single)) if float(single) == value else value
    return value
