"""The tokenizer and the chat template of a checkpoint: a folder as Hugging Face writes it, or a GGUF file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tfguide.checkpoints.gguf import GgufFile, is_gguf, open_gguf
from tfguide.text.packages import import_tokenizers
from tfguide.text.template import ChatTemplate
from tfguide.text.vocabulary import special_token, tokenizer_from_metadata

# The names of special tokens in a template, and those of a GGUF file.
_TOKENS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def read_tokenizer(source: str | os.PathLike | GgufFile):
    """The `tokenizers.Tokenizer` of a checkpoint, which neither cuts nor pads.

    source: a folder with tokenizer.json, a GGUF file, a folder that holds one, or a GGUF file that is open. A
    tokenizer.json may ask for every text to be cut or padded to some length. That is for training, and would silently
    change a prompt.

    Raises ImportError where the package `tokenizers` is not installed; ValueError where the file is missing or not
    whole, and as `open_gguf` and `tokenizer_from_metadata`.
    """
    file = _gguf_file(source, "tokenizer.json")
    if isinstance(file, GgufFile):
        return _named(file, tokenizer_from_metadata)
    tokenizers = import_tokenizers()
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises Exception itself
        raise ValueError(f"{file}: not a whole tokenizer.json: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_template(source: str | os.PathLike | GgufFile) -> ChatTemplate:
    """The chat template of a checkpoint.

    source: as for `read_tokenizer`; a folder has chat_template.jinja, or an entry of tokenizer_config.json.
    Raises ImportError where jinja2 is not installed; ValueError where there is no template or it is not valid.
    """
    file = _gguf_file(source, "tokenizer_config.json", "chat_template.jinja")
    if isinstance(file, GgufFile):
        return _named(file, _template_of_metadata)
    folder = Path(file).parent
    config = _read_config(folder / "tokenizer_config.json")
    tokens = {name: _content(value) for name, value in config.items() if name.endswith("_token") and value}
    if (folder / "chat_template.jinja").is_file():
        text = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    else:
        text = _default(config.get("chat_template"))
    return _compile(text, {name: token for name, token in tokens.items() if isinstance(token, str)}, folder)


def _gguf_file(source, *names):
    """The GGUF file, open; or the first of the files of a folder that is there."""
    if isinstance(source, GgufFile):
        return source
    there = [Path(source, name) for name in names if Path(source, name).is_file()]
    if there:
        return there[0]
    if is_gguf(source):
        return open_gguf(source)
    raise ValueError(f"no {names[0]} in {source}: expected a folder as Hugging Face writes it, or a GGUF file")


def _named(file, read):
    """What is read from the metadata of a file. An error names the file."""
    try:
        return read(file.metadata)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error


def _template_of_metadata(metadata):
    tokens = {name: special_token(metadata, role) for name, role in _TOKENS.items()}
    present = {name: token for name, token in tokens.items() if token is not None}
    return _compile(metadata.get("tokenizer.chat_template"), present, "tokenizer.chat_template")


def _compile(text, tokens, where):
    if not isinstance(text, str):
        raise ValueError(f"{where}: there is no chat template; `tfguide generate` continues a text without one")
    return ChatTemplate(text, tokens)


def _read_config(file) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{file}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file}: expected an object of JSON, got {type(config).__name__}")
    return config


def _content(token):
    """A token is a string, or an object with its content."""
    return token.get("content") if isinstance(token, dict) else token


def _default(template):
    """A template is a string; of several, each with a name, the one that is named default."""
    if isinstance(template, list):
        return next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    return template
