"""What an export asks at the door, and how its file comes to its place."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfguide.temporary import hidden_folder, remove_orphans

INSTALL = "pip install 'tfguide[export]'"


def check_packages(*names: str) -> None:
    """Raises ImportError that says what to install where one of these packages is missing."""
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except (ModuleNotFoundError, ValueError):  # no parent package, or None stands in its place
            found = False
        if not found:
            raise ImportError(f"the package {name.partition('.')[0]} is missing: {INSTALL}")


def check_model(model: Any, kinds: tuple[type, ...], framework: str, float32: bool = True) -> None:
    """Raises TypeError unless the model is a readable one of a framework, ValueError for weights that do not travel."""
    if not isinstance(model, kinds):
        raise TypeError(
            f"model must be an Encoder, a Decoder or an EncoderDecoder of {framework}, "
            f"got {type(model).__module__.rpartition('.')[0]}.{type(model).__name__}"
        )
    if model.quantization is not None:
        raise ValueError(
            f"the weights are quantised to {model.quantization.bits} bits in this package's own layout, which other "
            "programs do not read: export the model that was quantised, and ask the target for 8 bits (bits=8)"
        )
    if float32 and model.dtype_name != "float32":
        raise ValueError(f"expected a float32 model, got {model.dtype_name}: load it with dtype='float32'")


@contextlib.contextmanager
def new_file(file: str | os.PathLike, suffix: str, overwrite: bool) -> Iterator[Path]:
    """A path to write to, which becomes `file` at the end of the block; files beside it come with it.

    Raises TypeError for what is no path, ValueError for another suffix, FileExistsError unless `overwrite`,
    IsADirectoryError.
    """
    file = checked_file(file, suffix, overwrite)
    file.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(file.parent, file.name)
    with hidden_folder(file.parent, file.name) as folder:
        yield folder / file.name
        for written in sorted(folder.iterdir(), key=lambda path: path.name == file.name):  # the named one last
            os.replace(written, file.parent / written.name)


def checked_file(file: str | os.PathLike, suffix: str, overwrite: bool) -> Path:
    """The path of a file that may be written. Raises as `new_file`."""
    if not isinstance(file, (str, os.PathLike)) or isinstance(os.fspath(file), bytes):
        raise TypeError(f"file must be a str or a path, got {type(file).__name__}")
    file = Path(file)
    if file.suffix != suffix:
        raise ValueError(f"file must end in {suffix}, got {file.name!r}")
    if file.is_dir():
        raise IsADirectoryError(f"expected a file, got a folder: {file}")
    if file.exists() and not overwrite:
        raise FileExistsError(f"{file} exists: name another file, or overwrite it (overwrite=True)")
    return file
