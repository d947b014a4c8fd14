"""A tokeniser as the metadata of a GGUF file, taken from another GGUF file or from a tokenizer.json."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

from tfguide.checkpoints.folder import as_path, read_object
from tfguide.checkpoints.gguf.container import is_gguf, open_gguf
from tfguide.config import ModelConfig

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)  # llama.cpp's types of tokens
_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_ENDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))

# How byte-level tokenisers cut a text first, by the regular expression in tokenizer.json: the names in llama.cpp.
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {_LETTERS + r"\p{N}{1,3}" + _REST: "llama-bpe", _LETTERS + r"\p{N}" + _REST: "qwen2"}


def special_token_keys(config: ModelConfig) -> dict[str, int]:
    """The keys of the special tokens of a configuration, at most three of them ends."""
    keys = dict(zip(_ENDS, config.eos_token_ids, strict=False))
    for key, token in (("bos", config.bos_token_id), ("padding", config.pad_token_id)):
        if token is not None:
            keys[f"tokenizer.ggml.{key}_token_id"] = token
    return keys


def tokenizer_keys(path: str | os.PathLike, config: ModelConfig) -> dict[str, Any]:
    """The keys tokenizer.* for a model: from a GGUF file, a tokenizer.json, or a folder that holds one of them.

    Of tokenizer.json, byte-level BPE and the BPE of SentencePiece are supported. A vocabulary that is smaller than the
    model's is filled up with unused tokens. Raises ValueError that names the file, FileNotFoundError.
    """
    path = as_path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file or folder with a tokeniser: {path}")
    keys = _from_gguf(path) if is_gguf(path) else _from_json(path / "tokenizer.json" if path.is_dir() else path)
    tokens = keys[_TOKENS]
    if len(tokens) > config.vocab_size:
        raise ValueError(f"{path}: the tokeniser has {len(tokens)} tokens, the model only {config.vocab_size}")
    unused = range(len(tokens), config.vocab_size)
    fillers = {_TOKENS: [f"[PAD{i}]" for i in unused], _TYPES: [_UNUSED] * len(unused)}
    fillers["tokenizer.ggml.scores"] = [-1000.0] * len(unused)
    return {key: value + fillers[key] if key in fillers else value for key, value in keys.items()}


def _from_gguf(path):
    file = open_gguf(path)
    keys = {key: value for key, value in file.metadata.items() if key.startswith("tokenizer.")}
    if not isinstance(keys.get(_TOKENS), list):
        raise ValueError(f"{file.path}: expected a file with a tokeniser, got one without {_TOKENS}")
    return {key: value for key, value in keys.items() if key not in _ENDS[1:]}


def _from_json(file):
    data = read_object(file)
    try:
        keys = _keys(data, str(file))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{file}: not a tokeniser as the library `tokenizers` writes it: {error!r}") from error
    said = file.parent / "tokenizer_config.json"
    said = read_object(said) if said.is_file() else {}
    template = file.parent / "chat_template.jinja"
    template = template.read_text(encoding="utf-8") if template.is_file() else said.get("chat_template")
    if isinstance(template, str):
        keys["tokenizer.chat_template"] = template
    if isinstance(said.get("add_bos_token"), bool):
        keys["tokenizer.ggml.add_bos_token"] = said["add_bos_token"]
    return keys


def _keys(data, source):
    model = data["model"]
    if model["type"] != "BPE":
        raise ValueError(f"{source}: a tokeniser of type {model['type']!r} is not supported, only BPE")
    tokens, types = _vocabulary(data)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    parts = _parts(data.get("pre_tokenizer"))
    first = _parts(data.get("post_processor"))
    starts = any("SpecialToken" in part["single"][0] for part in first if part["type"] == "TemplateProcessing")
    keys = {_TOKENS: tokens, _TYPES: types, "tokenizer.ggml.add_bos_token": starts}
    if model.get("byte_fallback"):
        return keys | _sentencepiece(data, tokens, merges, source)
    return keys | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": _cutting(parts, source),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_space_prefix": False,
    }


def _vocabulary(data):
    """The tokens in the order of their numbers, and the type of each; a number without a token gets an unused one."""
    vocabulary, unknown = dict(data["model"]["vocab"]), data["model"].get("unk_token")
    types = {}
    for token, number in vocabulary.items():
        is_byte = len(token) == 6 and token.startswith("<0x") and bool(data["model"].get("byte_fallback"))
        types[number] = _BYTE if is_byte else _UNKNOWN if token == unknown else _NORMAL
    for added in data.get("added_tokens", ()):
        vocabulary[added["content"]] = added["id"]
        if types.get(added["id"]) != _UNKNOWN:
            types[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    by_number = {number: token for token, number in vocabulary.items()}
    numbers = range(max(by_number) + 1)
    return [by_number.get(i, f"[PAD{i}]") for i in numbers], [types.get(i, _UNUSED) for i in numbers]


def _sentencepiece(data, tokens, merges, source):
    """llama.cpp merges the pair whose token has the highest score: the merges must make tokens in their order."""
    numbers = {token: number for number, token in enumerate(tokens)}
    made = [numbers[merge.replace(" ", "", 1)] for merge in merges]
    if any(first > second for first, second in pairwise(made)):
        raise ValueError(f"{source}: its merges do not follow the order of the tokens, which GGUF's scores cannot say")
    parts = _parts(data.get("normalizer")) + _parts(data.get("pre_tokenizer"))
    prefix = any(p["type"] == "Prepend" or p.get("prepend_scheme") in ("first", "always") for p in parts)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def _parts(step):
    """The parts of a normaliser, a pre-tokeniser or a post-processor, which may be one or a sequence."""
    if step is None:
        return []
    for inner in ("pretokenizers", "normalizers", "processors"):
        if inner in step:
            return step[inner]
    return [step]


def _cutting(parts, source):
    """llama.cpp's name for the way in which a byte-level tokeniser cuts a text before it merges."""
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1].get("use_regex", True):
        return "smollm"
    pattern = parts[0]["pattern"].get("Regex") if kinds == ["Split", "ByteLevel"] else None
    if pattern not in _PATTERNS:
        raise ValueError(
            f"{source}: a byte-level tokeniser that cuts texts by {' and '.join(kinds) or 'nothing'} is not supported, "
            f"only those of gpt-2, smollm, {', '.join(_PATTERNS.values())}"
        )
    return _PATTERNS[pattern]
