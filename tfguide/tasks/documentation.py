"""Real text to train on, and the model that the book trained on it: the documentation inside CPython.

The text is the language reference of `help()` (`pydoc_data.topics`) and the docstrings of the standard library. It is
that of the interpreter which runs, so it differs a little between versions of Python. What the committed model is
measured on does not: its held-out text is a file beside the model.
"""

from __future__ import annotations

import ast
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.tasks import library
from tfguide.tasks.own import read_text
from tfguide.text import read_tokenizer
from tfguide.text.packages import import_tokenizers

END = "<|endoftext|>"  # stands after each document; its id is 0
VOCABULARY = 4096
HELD_OUT = 20  # one document of so many is held out

# Tests, applications, and tables of characters: their docstrings say little, or the same again and again.
_LEFT_OUT = {
    "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages", "test", "tests",
    "turtledemo", "__phello__", "_pyrepl",
}  # fmt: skip
_WORDS = 8  # a paragraph of fewer may stand in two documents by chance
_PIECE = 2000  # characters, at least, of a document that is cut out of one file
_FOLDER = Path(__file__).parent / "documentation_model"


def documents(path: str | os.PathLike | None = None) -> dict[str, str]:
    """Texts by name, in the order of their names: one for each topic and each module of the Python that runs.

    path: texts of your own instead: a folder of .txt, .md and .rst files, of which each is a document; or one file in
    UTF-8, which is cut into documents at blank lines. Raises FileNotFoundError where nothing is there, ValueError where
    no text is in it, and as `read_text`.
    """
    if path is None:
        found = dict(_topics()) | dict(_docstrings())
    else:
        found = _texts(Path(path))
    found = {name: text.strip() for name, text in sorted(found.items()) if text.strip()}
    if not found:
        raise ValueError(f"no text in {path}")
    return found


def split_documents(texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The documents to train on, and those that are held out.

    The name of a document decides: one in `HELD_OUT`, by a checksum. So a document is on the same side in every version
    of Python, however many others there are. Raises ValueError where one side would be empty.
    """
    held_out = {name: text for name, text in texts.items() if zlib.crc32(name.encode()) % HELD_OUT == 0}
    train = {name: text for name, text in texts.items() if name not in held_out}
    if not train or not held_out:
        raise ValueError(f"expected enough documents that some are held out, got {len(texts)}: {', '.join(texts)[:60]}")
    return train, held_out


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY):
    """A byte-level BPE of so many tokens, a `tokenizers.Tokenizer`: END, the 256 bytes, and merges learned from texts.

    Every text has tokens, and decoding gives it back. Source: Sennrich et al. 2016; Radford et al. 2019.
    Raises ImportError where the package `tokenizers` is not installed, ValueError for fewer than 257 tokens.
    """
    vocabulary = check_count("vocabulary", vocabulary, least=257)
    package = import_tokenizers()
    bpe = package.Tokenizer(package.models.BPE())
    bpe.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = package.decoders.ByteLevel()
    trainer = package.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(package.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return bpe


def encode(tokenizer, texts: Iterable[str]) -> np.ndarray:
    """Texts as one row of token ids, int64 (n,), with END after each text."""
    end = [tokenizer.token_to_id(END)]
    rows = [np.array(encoding.ids + end, np.int64) for encoding in tokenizer.encode_batch(list(texts))]
    return np.concatenate(rows)


def model_config(vocabulary: int = VOCABULARY) -> ModelConfig:
    """The decoder that the book trains: Llama's block, two query heads for each key/value head, 4.2 million weights."""
    return ModelConfig(
        kind="decoder", d_model=256, n_layers=4, n_heads=4, n_kv_heads=2, d_ff=768, vocab_size=vocabulary,
        max_positions=512, norm="rms", positions="rotary", activation="swiglu",
        qkv_bias=False, output_bias=False, ffn_bias=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip


def folder() -> Path:
    """The folder of the trained model, for `load_checkpoint`, which comes with the package."""
    return _FOLDER


def tokenizer():
    """The tokenizer of the trained model, a `tokenizers.Tokenizer`. Raises as `read_tokenizer`."""
    return read_tokenizer(_FOLDER)


def held_out() -> str:
    """The text on which the trained model is measured: the held-out documents of Python 3.11, each followed by END."""
    return (_FOLDER / "held_out.txt").read_text(encoding="utf-8")


def _topics() -> Iterator[tuple[str, str]]:
    """The topics of `help()`, without those that are sections of a longer one: held out, they would not be unknown."""
    from pydoc_data.topics import topics

    seen = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = {" ".join(part.split()) for part in topics[name].split("\n\n")}
        own = {paragraph for paragraph in paragraphs if paragraph.count(" ") >= _WORDS} - seen
        if own:
            seen |= own
            yield f"topics/{name}", topics[name]


def _docstrings() -> Iterator[tuple[str, str]]:
    """For each module: its docstring, then those of its classes and functions, each below its signature."""
    for module, source in library.modules(_LEFT_OUT):
        found = [f"{_signature(module, name, node)}\n\n{text}" for name, node, text in library.documented(source)]
        yield module, "\n\n\n".join(found)


def _signature(module, name, node):
    if isinstance(node, ast.Module):
        return module
    return f"class {name}" if isinstance(node, ast.ClassDef) else f"{name}({ast.unparse(node.args)})"


def _texts(path):
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix in (".txt", ".md", ".rst")]
        return {file.relative_to(path).as_posix(): read_text(file) for file in files}
    pieces = [""]
    for paragraph in read_text(path).split("\n\n"):
        if len(pieces[-1]) >= _PIECE:
            pieces.append("")
        pieces[-1] += paragraph + "\n\n"
    return {f"{path.name}/{i:05}": piece.strip() for i, piece in enumerate(pieces)}
