"""From a folder to a configuration and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from tfguide.checkpoints import (
    bert,
    deepseek_v3,
    distilbert,
    gemma3,
    gpt2,
    gpt_oss,
    llama,
    mistral,
    mixtral,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    roberta,
    t5,
)  # fmt: skip
from tfguide.checkpoints.fields import Fields, as_keys
from tfguide.checkpoints.folder import CONFIG, as_folder, find_tensors, read_object
from tfguide.checkpoints.generation import with_special_tokens
from tfguide.checkpoints.layout import Stored, StoredStack, find_weights, plain_names
from tfguide.checkpoints.mxfp4 import StoredBlocks
from tfguide.config import ModelConfig

_FAMILIES = (
    bert, distilbert, roberta, gpt2, llama, mistral, mixtral, qwen2, qwen3, qwen3_moe, gemma3, phi3, deepseek_v3,
    gpt_oss, t5,
)  # fmt: skip
FAMILIES: dict[str, ModuleType] = {family.MODEL_TYPE: family for family in _FAMILIES}


def read_checkpoint(folder: str | os.PathLike, ignore: Sequence[str] = ()) -> tuple[ModelConfig, dict[str, np.ndarray]]:
    """The configuration and the canonical float32 weights in a folder that Hugging Face wrote.

    folder: holds config.json, and model.safetensors or its shards with their index, of a family in `FAMILIES`.
    ignore: keys of config.json to treat as absent, where you know that they do not matter; "outer.inner" for one inside
    another.

    Weights stored as float16, bfloat16 or float64 become float32. What transformers computes with these files in
    float32 is what the configuration says. A key that transformers reads and that would make a difference is an error;
    one that it does not read is passed over. Special tokens are those of generation_config.json, where there is one.
    A UserWarning names what is passed over or ignored, what generation does not apply, an encoder's pretraining head,
    and special tokens outside the vocabulary.

    Raises ValueError for files that are corrupt or contradict each other, for keys and values that are not supported,
    and for tensors that are missing, unexpected or of another shape or type than expected; FileNotFoundError,
    NotADirectoryError and TypeError for the arguments.
    """
    config, stored = open_checkpoint(folder, ignore)
    return config, {name: weight.to_float32() for name, weight in stored.items()}


def open_checkpoint(
    folder: str | os.PathLike, ignore: Sequence[str] = ()
) -> tuple[ModelConfig, dict[str, Stored | StoredStack | StoredBlocks]]:
    """The configuration of a folder, and its canonical weights in their files, which are not read yet.

    Arguments, warnings and errors are those of `read_checkpoint`.
    """
    folder = as_folder(folder)
    ignore = as_keys(ignore)
    source = str(folder / CONFIG)
    keys = read_object(folder / CONFIG)
    tensors = find_tensors(folder)
    if keys.get("model_type") == gemma3.WITH_IMAGES:
        keys, tensors = gemma3.text_keys(keys, source), gemma3.text_tensors(tensors, source)
    family = _family(keys, source)
    tensors = plain_names(tensors, family.plain)
    fields = Fields(keys, source, ignore)
    with fields.named_errors():
        config = family.config_from_hf(fields, tensors)
    config = with_special_tokens(config, folder, keys)
    return config, find_weights(config, family, tensors, str(folder))


def _family(keys: Mapping[str, Any], source: str) -> ModuleType:
    model_type = keys.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ValueError(f"{source}: model_type={model_type!r} is not supported, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[model_type]
