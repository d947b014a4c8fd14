"""A folder that is replaced whole: written under a temporary name beside it, then renamed into its place."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tfguide.checkpoints.folder import CONFIG, INDEX, WEIGHTS, read_object
from tfguide.temporary import beside, hidden_folder, remove_orphans, sync

_OURS = re.compile(rf"{re.escape(CONFIG)}|{re.escape(WEIGHTS)}|{re.escape(INDEX)}|model-\d+-of-\d+\.safetensors")


@contextlib.contextmanager
def replacing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A new empty folder to write into, which takes the place of `folder` when the block ends without an error.

    After an error, `folder` is unchanged and nothing is left beside it. A crash may leave `.NAME.new-...` beside it,
    which the next write removes (see `tfguide.temporary`). A crash between the two renames of an overwrite leaves the
    old checkpoint there too, as `.NAME.old-...`, both of them whole; the next write that succeeds removes both.
    Files of the old folder other than its config.json and weights are copied into the new one.

    Raises FileExistsError where the folder is not empty, unless `overwrite` and it holds a checkpoint;
    NotADirectoryError where it is a file.
    """
    folder = folder.resolve()  # a link to a folder stays a link
    _check_free(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_orphans(folder.parent, folder.name)
    with hidden_folder(folder.parent, folder.name) as temporary:
        yield temporary
        _check_free(folder, overwrite)
        _keep_others(folder, temporary)
        sync(temporary)
        _swap(temporary, folder, beside(temporary))
    remove_orphans(folder.parent, folder.name, replaced=True)


def _check_free(folder, overwrite):
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"expected a folder to write to, got a file: {folder}")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not _is_checkpoint(folder):
        raise FileExistsError(f"{folder} is not empty and holds no checkpoint of ours: it is never overwritten")
    if not overwrite:
        raise FileExistsError(f"{folder} holds a checkpoint already; overwrite=True replaces it")


def _is_checkpoint(folder):
    """Whether the folder holds what `read_checkpoint` would look for, and no adapter that would stay beside it."""
    try:
        if (folder / "adapter_config.json").exists():
            return False
        return "model_type" in read_object(folder / CONFIG) and any(
            (folder / file).exists() for file in (WEIGHTS, INDEX)
        )
    except (OSError, ValueError):
        return False


def _keep_others(folder, temporary):
    """Copy the files that this package does not write: a tokeniser, a README, whatever the owner put there."""
    for entry in folder.iterdir() if folder.exists() else ():
        if (_OURS.fullmatch(entry.name) and not entry.is_dir()) or (temporary / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, temporary / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, temporary / entry.name, follow_symlinks=False)


def _swap(new, folder, old):
    if not folder.exists():
        os.rename(new, folder)
    else:
        os.rename(folder, old)
        try:
            os.rename(new, folder)
        except BaseException:
            os.rename(old, folder)
            raise
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
