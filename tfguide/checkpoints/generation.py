"""generation_config.json: which tokens end a text, and which one a decoder starts from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfguide.checkpoints.fields import Fields, short
from tfguide.checkpoints.folder import CONFIG, GENERATION, read_object
from tfguide.config import ModelConfig

TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")

# transformers reads these to decide where a text ends or which special tokens it has; this package does not.
_NOT_APPLIED = (
    "min_length", "min_new_tokens", "max_time", "stop_strings", "forced_bos_token_id", "forced_eos_token_id",
    "suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "exponential_decay_length_penalty",
)  # fmt: skip


def with_special_tokens(config: ModelConfig, folder: Path, keys: Mapping[str, Any]) -> ModelConfig:
    """A configuration with the special tokens that generation uses in transformers, given the keys of config.json.

    Where there is a generation_config.json, the end tokens are those that it names and no others. A decoder behind an
    encoder that has no start token begins with `bos_token_id`. How tokens are drawn (do_sample, temperature, ...) is
    for the caller to say. Warns of what is not applied, and where only config.json names an end token.

    Raises ValueError for a file that is not whole, or a token that is not an integer.
    """
    if config.kind == "encoder":  # it generates nothing
        return config
    file = folder / GENERATION
    source, said = (str(file), read_object(file)) if file.is_file() else (str(folder / CONFIG), keys)
    if said is not keys:
        config = config.replace(**_tokens(said, source, config, keys))
    if config.kind == "encoder-decoder" and config.decoder_start_token_id is None:
        config = config.replace(decoder_start_token_id=config.bos_token_id)
    unheard = [f"{key}={short(said[key])}" for key in _NOT_APPLIED if said.get(key)]
    if unheard:
        warnings.warn(f"{source}: not applied when text is generated here: {', '.join(unheard)}", stacklevel=2)
    return config


def generation_config(config: ModelConfig, folder: Path) -> dict[str, Any]:
    """What to write: the special tokens of a configuration, and the rest of a file that is in the folder already."""
    try:
        kept = {key: value for key, value in read_object(folder / GENERATION).items() if key not in TOKENS}
    except (OSError, ValueError):
        kept = {}
    return kept | {name: token for name, token in tokens_of(config).items() if token is not None}


def tokens_of(config: ModelConfig) -> dict[str, Any]:
    """The special tokens of a configuration, as JSON has them."""
    tokens = {name: getattr(config, name) for name in TOKENS}
    return {name: list(token) if isinstance(token, tuple) else token for name, token in tokens.items()}


def _tokens(said, source, config, keys):
    start = said.get("decoder_start_token_id")
    if isinstance(start, list) and len(start) == 1:  # transformers allows one for each row of a batch
        said = {**said, "decoder_start_token_id": start[0]}
    known = {name: getattr(config, name) for name in TOKENS if name != "eos_token_id"}
    tokens = Fields({name: said[name] for name in TOKENS if said.get(name) is not None}, source).token_ids(
        config.vocab_size, **known
    )
    if said.get("eos_token_id") is None and keys.get("eos_token_id") is not None:
        lone = short(keys["eos_token_id"])
        warnings.warn(
            f"{source}: names no eos_token_id, so no token ends a text, as in transformers; {CONFIG} has {lone}",
            stacklevel=2,
        )
    return tokens
