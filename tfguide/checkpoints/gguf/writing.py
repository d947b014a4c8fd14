"""From a configuration and its weights to a GGUF file that llama.cpp loads."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tfguide.checkpoints.differences import differences
from tfguide.checkpoints.gguf import gemma3, gpt_oss
from tfguide.checkpoints.gguf.blocks import BLOCK_TYPES, NUMBERS, import_gguf
from tfguide.checkpoints.gguf.container import GgufFile, GgufTensor
from tfguide.checkpoints.gguf.keys import EMBEDDING, fields_of
from tfguide.checkpoints.gguf.layout import gguf_array, gguf_tensors
from tfguide.checkpoints.gguf.quantise import OF_EXPERTS, WRITTEN, fitting_type, quantise
from tfguide.checkpoints.gguf.reading import ARCHITECTURES
from tfguide.checkpoints.gguf.tokenizer import special_token_keys, tokenizer_keys
from tfguide.checks.shapes import check_config
from tfguide.checks.values import check_choice
from tfguide.config import ModelConfig
from tfguide.frequencies import attention_factor
from tfguide.scalings import RopeScaling, YarnScaling
from tfguide.temporary import hidden_folder, remove_orphans, sync
from tfguide.weights import check_weights

_HEAD = "output.weight"
_FOUR_BITS = ("Q4_0", "Q4_1", "Q4_K", OF_EXPERTS)
_TABLES = ("position_embd.weight", "token_types.weight")  # small, and rounded nowhere
_ROUTER = ".ffn_gate_inp.weight"  # likewise
# llama.cpp's numbers for what most tensors of a file are.
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K": 14, "BF16": 32, OF_EXPERTS: 38}


def write_gguf(
    path: str | os.PathLike,
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    block_type: str = "F16",
    tokenizer: str | os.PathLike | None = None,
    embedding_type: str | None = None,
    overwrite: bool = False,
    architecture: str | None = None,
) -> None:
    """Write a GGUF file that llama.cpp loads, of an architecture that can express the configuration.

    weights: canonical, of any floating type. block_type: of the matrices, "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"
    or "Q4_K"; a matrix whose rows are no multiple of a block is Q5_0 instead of Q4_K, or F16. "MXFP4": of the matrices
    of experts, all others are Q8_0. Norms, biases, routers and the tables of positions and token types stay float32.
    tokenizer: a GGUF file, a tokenizer.json or a folder that holds one of them, whose tokeniser and chat template are
    written as well; default: none, and llama.cpp takes and gives token numbers only.
    embedding_type: of the embedding of tokens and of the head; default: Q8_0 where `block_type` has 4 bits, else
    `block_type`. overwrite: replace a file that is there.
    architecture: the name of one in `ARCHITECTURES`; default: the first that can express the configuration, so that
    a model read from a file of "phi3" becomes one of "llama", unless it has parts of its own.

    The file is written under a temporary name beside its place and then renamed. Rows of a table of positions that no
    token has (RoBERTa) are left out, as llama.cpp wants it. Warns of a sliding window, which `read_gguf` applies and
    llama.cpp does not. Raises ValueError where no architecture, or not the one that was asked for, can express the
    configuration, saying what keeps each from it, for weights that do not fit it or are not finite, and for a tokeniser
    that does not; FileExistsError; IsADirectoryError; ImportError where the package `gguf` is missing.
    """
    path = _free(path, overwrite)
    check_config(config)
    check_weights(config, weights)
    types = _block_types(block_type, embedding_type, config)
    config, weights = _without_unread_positions(config, weights)
    module = choose_architecture(config, architecture)
    if config.sliding_window is not None and module not in (gemma3, gpt_oss):
        limit = f"its logits are others after the first {config.sliding_window} tokens"
        warnings.warn(f"llama.cpp does not apply the sliding window of this architecture: {limit}", stacklevel=2)
    keys = _metadata(config, module, block_type)
    if tokenizer is not None:
        keys |= tokenizer_keys(tokenizer, config)
    keys |= special_token_keys(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(path.parent, path.name)
    with hidden_folder(path.parent, path.name) as folder:
        written = folder / path.name
        _write(written, config, module, weights, keys, types)
        if _free(path, overwrite).exists():
            shutil.copymode(path, written)
        sync(written)
        os.replace(written, path)


def choose_architecture(config: ModelConfig, name: str | None = None) -> ModuleType:
    """The architecture whose metadata, read back, is this configuration: the one of a name, or the first.

    Raises ValueError where there is none.
    """
    if name is not None:
        check_choice("architecture", name, tuple(ARCHITECTURES))
    reasons = []
    for own in ARCHITECTURES if name is None else [name]:
        obstacles = _obstacles(config, ARCHITECTURES[own])
        if not obstacles:
            return ARCHITECTURES[own]
        reasons.append(f"{own}: {', '.join(obstacles)}")
    who = "no architecture of GGUF files can" if name is None else f"the architecture {name!r} of GGUF files cannot"
    raise ValueError(f"{who} express this configuration:\n  " + "\n  ".join(reasons))


def _obstacles(config, architecture) -> list[str]:
    """What keeps an architecture from expressing a configuration: the fields that would come back different."""
    # Dropout belongs to training and the start token to encoder-decoders: neither has a key, nor an effect here.
    config = dataclasses.replace(config, dropout=0.0, decoder_start_token_id=None)
    try:
        keys = architecture.metadata(config) | special_token_keys(config)  # raises where a part has no place
        tensors = {name: _empty(name, shape) for name, (shape, _) in gguf_tensors(config, architecture).items()}
        tensors |= {name: _empty(name, array.shape, array) for name, array in architecture.beside(config).items()}
        file = GgufFile(Path("GGUF"), architecture.ARCHITECTURE, keys, tensors)
        nearest = architecture.config_from_gguf(fields_of(file), file)
    except (KeyError, ValueError) as error:
        return [f"no place for {error}" if isinstance(error, KeyError) else str(error).removeprefix("GGUF: ")]
    if _does_the_same(config.rope_scaling, nearest.rope_scaling):
        nearest = dataclasses.replace(nearest, rope_scaling=config.rope_scaling)
    return differences(config, nearest, tolerance=1e-6)


def _does_the_same(scaling, nearest) -> bool:
    """Whether a scaling that comes back with other numbers is another one: a file may hold only what it does."""
    if not (isinstance(scaling, YarnScaling) and isinstance(nearest, YarnScaling)):
        return isinstance(scaling, RopeScaling) and nearest is not None
    if not math.isclose(attention_factor(scaling), attention_factor(nearest), rel_tol=1e-6):
        return False
    same = dict(attention_factor=None, mscale=None, mscale_all_dim=None)
    return dataclasses.replace(scaling, **same) == dataclasses.replace(nearest, **same)


def _empty(name, shape, array=None) -> GgufTensor:
    data = np.broadcast_to(np.uint8(0), (*shape[:-1], 4 * shape[-1])) if array is None else array.view(np.uint8)
    return GgufTensor(name, shape, "F32", data)


def _free(path, overwrite) -> Path:
    """The path to write to, with links resolved."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}")
    if not isinstance(overwrite, bool):
        raise TypeError(f"overwrite must be a bool, got {overwrite!r}")
    if not os.fspath(path):
        raise ValueError("path must name a file, got an empty string")
    path = Path(path).resolve()
    if path.is_dir():
        raise IsADirectoryError(f"expected a file to write to, got a folder: {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; overwrite=True replaces it")
    return path


def _without_unread_positions(config, weights):
    """The configuration and weights without the rows of the table of positions before that of the first token."""
    if not config.position_offset:
        return config, weights
    table = "embedding.position.weight"
    return config.replace(position_offset=0), dict(weights) | {table: weights[table][config.position_offset :]}


def _block_types(block_type, embedding_type, config) -> tuple[str, str]:
    """The types of the matrices, and of the embedding and the head."""
    if embedding_type is None:
        embedding_type = "Q8_0" if block_type in _FOUR_BITS else block_type
    for name, value, known in (
        ("block_type", block_type, (*WRITTEN, OF_EXPERTS)), ("embedding_type", embedding_type, WRITTEN),
    ):  # fmt: skip
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if block_type == OF_EXPERTS and config.experts is None:
        raise ValueError(f"block_type={OF_EXPERTS!r} is for matrices of experts, and this model has none")
    return block_type, embedding_type


def _metadata(config, architecture, block_type) -> dict[str, Any]:
    about = {
        "general.type": "model",
        "general.file_type": _FILE_TYPES[block_type],
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "no_vocab",
    }
    return about | architecture.metadata(config)


def _write(file, config, architecture, weights, keys, types) -> None:
    """Write the header, then one tensor after the other, so that no more than one is in memory."""
    gguf = import_gguf("write GGUF files")
    beside, tensors = architecture.beside(config), gguf_tensors(config, architecture)
    shapes = {name: array.shape for name, array in beside.items()}
    shapes |= {name: shape for name, (shape, _) in tensors.items()}
    kinds = {name: _type_of(name, shape, types) for name, shape in shapes.items()}
    with contextlib.closing(gguf.GGUFWriter(file, architecture.ARCHITECTURE)) as writer:
        for key, value in keys.items():
            _add(writer, key, value)
        for name, shape in shapes.items():
            block = BLOCK_TYPES[NUMBERS[kinds[name]]]
            in_bytes = (*shape[:-1], shape[-1] // block.size * block.n_bytes)
            kind = gguf.GGMLQuantizationType[block.name]
            writer.add_tensor_info(name, in_bytes, np.dtype(np.uint8), math.prod(in_bytes), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for array in beside.values():
            writer.write_tensor_data(array.view(np.uint8))
        places = architecture.places(config)
        for name, (_, ours) in tensors.items():
            try:
                writer.write_tensor_data(quantise(gguf_array(config, places, weights, name, ours), kinds[name]))
            except ValueError as error:
                raise ValueError(f"weight {ours[0]!r} {error}") from error


def _type_of(name, shape, types) -> str:
    """The type of a tensor, given those of the matrices and of the embedding."""
    if len(shape) == 1 or name in _TABLES or name.endswith((_ROUTER, ".bias")):
        return "F32"
    kind = types[name in (EMBEDDING, _HEAD)]
    kind = "Q8_0" if kind == OF_EXPERTS and "_exps." not in name else kind
    return fitting_type(kind, shape[-1])


def _add(writer, key, value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value:  # the package refuses an empty list, which says nothing
        writer.add_array(key, value)
