"""The file in which a reader writes an exercise: where it lies, and what stands in it at the beginning."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

from tfguide.exercises.entry import IMPORTS, TITLES, Exercise

_WIDTH = 88


def starter_text(exercise: Exercise, framework: str) -> str:
    """The starter: the task as its docstring, the import of the framework, and the function without a body."""
    about = f"Exercise {exercise.id}: {exercise.title} ({describe(exercise)})"
    if exercise.tensors:
        about += f"\n\nIn {TITLES[framework]}."
    statement = [textwrap.fill(paragraph, _WIDTH) for paragraph in exercise.statement.split("\n\n")]
    how = f"check it:  tfguide exercise check {exercise.id}\na hint:    tfguide exercise hint {exercise.id}"
    docstring = "\n\n".join([about, *statement, how])
    tools = (exercise.tools or {}).get(framework)
    lines = [f'"""{docstring}\n"""', "", IMPORTS[framework]]
    lines += ["", f"# Of use: {tools}"] if tools else []
    lines += ["", "", f"def {exercise.signature}:", f'    raise NotImplementedError("write {exercise.name} here")']
    return "\n".join(lines) + "\n"


def starter_name(exercise: Exercise, framework: str) -> str:
    """The name of the file, as "causal_mask_torch.py"."""
    name = exercise.id.replace("-", "_")
    return f"{name}_{framework}.py" if exercise.tensors else f"{name}.py"


def describe(exercise: Exercise) -> str:
    """Where an exercise belongs: "chapter 2, grade 1 of 3"."""
    where = "section" if "." in exercise.section else "chapter"
    return f"{where} {exercise.section}, grade {exercise.grade} of 3"


def write_starter(exercise: Exercise, framework: str, file: Path) -> None:
    """Write the starter into a new file. Raises ValueError where there is one already, and OSError."""
    try:
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(starter_text(exercise, framework))
    except FileExistsError:
        raise ValueError(
            f"{file} is there already, and may hold your work. `tfguide exercise reset {exercise.id}` begins anew and "
            "keeps a copy; --file names another file"
        ) from None


def restore_starter(exercise: Exercise, framework: str, file: Path) -> Path | None:
    """Write the starter over a file; returns the copy that is kept of what was in it, None where there was none."""
    backup = None
    if file.exists():
        backup = _free_name(file)
        os.replace(file, backup)
    write_starter(exercise, framework, file)
    return backup


def _free_name(file):
    """A name beside a file that is not taken: "causal_mask_torch.py.bak", ".bak2" and so on."""
    number = 1
    while True:
        name = file.with_name(f"{file.name}.bak{number if number > 1 else ''}")
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            number += 1
        else:
            return name
