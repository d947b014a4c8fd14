"""From a configuration and its weights to a folder that transformers loads."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tfguide.checkpoints.differences import differences
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.folder import CONFIG, GENERATION, INDEX, WEIGHTS, as_path
from tfguide.checkpoints.generation import generation_config, tokens_of
from tfguide.checkpoints.layout import hf_array, hf_tensors, one_by_one
from tfguide.checkpoints.reading import FAMILIES
from tfguide.checkpoints.swap import replacing
from tfguide.checks.shapes import check_config
from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.temporary import sync
from tfguide.weights import check_weights

Tensors = dict[str, tuple[tuple[int, ...], list[str]]]  # by name: the shape, and the canonical weights in it


def write_checkpoint(
    folder: str | os.PathLike,
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    overwrite: bool = False,
    max_shard_bytes: int = 5_000_000_000,
    family: str | None = None,
) -> None:
    """Write a folder that transformers loads with equal results: config.json, special tokens, safetensors in float32.

    Weights larger than `max_shard_bytes` are divided into files with an index. Everything is written under a temporary
    name beside the folder and then renamed, so that a crash never leaves a broken folder.

    family: the name of one in `FAMILIES`; default: the first that can express the configuration, which is the most
    general one. A model that was read from a folder of "phi3" is one of "llama", unless it has parts of its own.
    overwrite: replace the checkpoint that is there. Its config.json and weights go, its generation_config.json gets the
    special tokens of the configuration, every other file in the folder stays; a folder that is not empty and holds no
    checkpoint is refused even so.

    Raises ValueError where no family, or not the one that was asked for, can express the configuration, saying what
    keeps each from it, and for weights that do not fit the configuration; FileExistsError where the folder holds
    something; NotADirectoryError.
    """
    folder = as_path(folder)
    check_config(config)
    max_shard_bytes = check_count("max_shard_bytes", max_shard_bytes)
    if not isinstance(overwrite, bool):
        raise TypeError(f"overwrite must be a bool, got {overwrite!r}")
    check_weights(config, weights)
    family = choose_family(config, family)
    with replacing(folder, overwrite) as temporary:
        _write_json(temporary / CONFIG, hf_config(config, family))
        if config.kind != "encoder":
            _write_json(temporary / GENERATION, generation_config(config, folder))
        _write_weights(temporary, config, family, weights, max_shard_bytes)


def hf_config(config: ModelConfig, family: ModuleType) -> dict[str, Any]:
    """The config.json of a configuration."""
    return {
        "architectures": [family.ARCHITECTURE],
        "model_type": family.MODEL_TYPE,
        "dtype": "float32",
        **family.config_to_hf(config),
        **{name: token for name, token in tokens_of(config).items() if token is not None or name[0] != "d"},
    }


def choose_family(config: ModelConfig, name: str | None = None) -> ModuleType:
    """The family whose config.json, read back, is this configuration: the one of a name, or the first.

    Raises ValueError where there is none.
    """
    if name is not None:
        check_choice("family", name, tuple(FAMILIES))
    reasons = []
    for family in FAMILIES.values() if name is None else [FAMILIES[name]]:
        obstacles = _obstacles(config, family)
        if not obstacles:
            return family
        reasons.append(f"{family.MODEL_TYPE}: {', '.join(obstacles)}")
    who = "no family of checkpoints can" if name is None else f"the family {name!r} cannot"
    raise ValueError(f"{who} express this configuration:\n  " + "\n  ".join(reasons))


def _obstacles(config, family) -> list[str]:
    """What keeps a family from expressing a configuration: the fields that would come back different."""
    try:
        keys = hf_config(config, family)  # which raises where the family has no place for a part
        tensors = {place.name for place in one_by_one(family.places(config)).values()}
        fields = Fields(keys)
        with fields.named_errors():  # a part may be of another kind there, and its numbers of another type
            nearest = family.config_from_hf(fields, tensors)
    except ValueError as error:
        return [str(error).removeprefix("config.json: ")]
    return differences(config, nearest)


def _write_weights(folder: Path, config, family, weights, max_shard_bytes) -> None:
    tensors, places = hf_tensors(config, family), one_by_one(family.places(config))
    shards = _shards(tensors, max_shard_bytes)
    weight_map = {}
    for i, shard in enumerate(shards):
        file = WEIGHTS if len(shards) == 1 else f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        arrays = {_written(name, family, config): hf_array(places, weights, tensors[name][1]) for name in shard}
        save_file(arrays, folder / file, metadata={"format": "pt"})
        shutil.copymode(folder / CONFIG, folder / file)  # safetensors lets nobody but the owner read its files
        sync(folder / file)
        weight_map |= dict.fromkeys(arrays, file)
    if len(shards) > 1:
        total = sum(map(_n_bytes, tensors.values()))
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(tensors: Tensors, max_bytes: int) -> list[list[str]]:
    """The names of each file's tensors, in order; a file is over `max_bytes` only where one tensor is."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _n_bytes(tensor) > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _n_bytes(tensor)
    return shards


def _n_bytes(tensor) -> int:
    return 4 * math.prod(tensor[0])


def _written(name, family, config) -> str:
    if config.labels is not None:  # beside a head stands the trunk, under the name that it has there
        return name if name.split(".")[0] in family.HEADS else f"{family.MODEL_TYPE}.{name}"
    return name if name in family.UNPREFIXED else family.PREFIX + name


def _write_json(file: Path, value) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    sync(file)
