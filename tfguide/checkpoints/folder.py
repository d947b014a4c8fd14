"""The files of a checkpoint folder: which there are, and which hold which tensor."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tfguide.checkpoints.tensors import Tensor, read_headers, unique_keys

CONFIG = "config.json"
GENERATION = "generation_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CONVERT = "write them again with transformers: model.save_pretrained(folder, safe_serialization=True)"


def as_folder(folder: str | os.PathLike) -> Path:
    """A path to a folder that exists. Raises TypeError, FileNotFoundError or NotADirectoryError."""
    folder = as_path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"expected a folder with {CONFIG} and safetensors, got a file: {folder}")
    return folder


def as_path(folder: str | os.PathLike) -> Path:
    """A path given as text or as a path. Raises TypeError."""
    if not isinstance(folder, (str, os.PathLike)) or isinstance(os.fspath(folder), bytes):
        raise TypeError(f"folder must be a str or a path, got {type(folder).__name__}")
    if not os.fspath(folder):
        raise ValueError("folder must name a folder, got an empty string")
    return Path(folder)


def read_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ValueError where the file holds anything else, FileNotFoundError."""
    try:
        value = json.loads(file.read_bytes().decode("utf-8"), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no {file.name} in {file.parent}: expected a folder as Hugging Face writes it"
        ) from None
    except (ValueError, RecursionError) as error:  # of UTF-8 and of JSON both
        raise ValueError(f"{file}: not a whole JSON file: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(value).__name__}")
    return value


def find_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint by name, from model.safetensors or from the shards of its index.

    Only headers are read. A file may itself be a symbolic link, as in Hugging Face's cache, but no path in the index
    may leave the folder. Raises ValueError for files that are corrupt, that contradict each other or that are pickled,
    and FileNotFoundError where there are no weights.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            f"{folder / 'adapter_config.json'}: adapters (LoRA) are not applied here, and the logits would differ "
            "without them; merge them into the weights first"
        )
    if single.is_file() and index.is_file():
        raise ValueError(f"{folder} holds both {WEIGHTS} and {INDEX}: expected one of them, remove the one that is old")
    if single.is_file():
        return read_headers(single)
    if index.is_file():
        return _read_index(index)
    raise _no_weights(folder)


def _read_index(index: Path) -> dict[str, Tensor]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index}: expected a weight_map from tensor names to files, got {type(weight_map).__name__}")
    for name, shard in weight_map.items():
        _check_shard(index, name, shard)
    tensors = {}
    for shard in sorted(set(weight_map.values())):
        file = index.parent / shard
        if not file.is_file():
            name = next(name for name, other in weight_map.items() if other == shard)
            raise ValueError(f"{index}: names {shard} for tensor {name!r}, but there is no such file")
        found = read_headers(file)
        listed = {name for name, other in weight_map.items() if other == shard}
        for name in sorted(listed - set(found)):
            raise ValueError(f"{index}: says that tensor {name!r} is in {shard}, but it is not there")
        for name in sorted(set(found) - listed):
            other = weight_map.get(name, "no file")
            raise ValueError(f"{file}: holds tensor {name!r}, for which the index {index.name} names {other}")
        tensors |= found
    return {name: tensors[name] for name in weight_map}


def _check_shard(index, name, shard):
    if not isinstance(shard, str) or not shard.endswith(".safetensors"):
        raise ValueError(f"{index}: expected a .safetensors file for tensor {name!r}, got {shard!r}")
    paths = PurePosixPath(shard), PureWindowsPath(shard)
    if any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths) or "\0" in shard:
        raise ValueError(f"{index}: the file for tensor {name!r} lies outside the folder: {shard!r}")


def _no_weights(folder: Path) -> Exception:
    files = sorted(entry.name for entry in folder.iterdir())
    for file in files:
        if file.endswith((*_PICKLED, ".bin.index.json")):
            return ValueError(
                f"{folder / file}: pickled weights are refused, because reading a pickle runs whatever code it holds; "
                f"where you trust them, {_CONVERT}"
            )
        if file.endswith((".h5", ".msgpack", ".gguf", ".index")):
            return ValueError(f"{folder / file}: weights of this format are not read, only safetensors; {_CONVERT}")
    others = [file for file in files if file.endswith(".safetensors")]
    found = f"; it holds {', '.join(others)}" if others else ""
    return FileNotFoundError(f"no weights in {folder}: looked for {WEIGHTS} and {INDEX}{found}")
