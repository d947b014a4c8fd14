"""Programs of the tests, which take 10 seconds to compile: kept beside the kernels until something in them changes."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from tfguide import native
from tfguide.native import compiler
from tfguide.native.library import FOLDER
from tfguide.native.machine import DEFAULT, processor
from tfguide.temporary import hidden_folder

UNUSED_SECONDS = 30 * 24 * 3600  # after which a program is removed


def kept(build: Callable[[Path], Path], words: list[str], *sources: Path) -> Path:
    """What `build` compiles in the folder that it is given; an earlier test run may have compiled it.

    words: the compiler's command and options; sources: what is compiled beside the kernels and their headers.
    """
    seen = hashlib.sha256(" ".join([*words, *compiler.FLAGS, processor()]).encode())
    seen.update(compiler.describe_compiler(words, DEFAULT).encode())
    for file in (*sorted([*FOLDER.rglob("*.h"), *FOLDER.rglob("*.cpp")]), *sources):
        seen.update(f"{file.name}\0".encode() + file.read_bytes())
    folder = Path(native.library()._name).parent
    file = folder / f"program-{seen.hexdigest()[:32]}"
    if not file.exists():
        with hidden_folder(folder, file.name) as hidden:
            os.replace(build(hidden), file)
    os.utime(file)
    for other in folder.glob("program-*"):
        if time.time() - other.stat().st_mtime > UNUSED_SECONDS:
            other.unlink(missing_ok=True)
    return file
