"""What an exercise is: a task of the book, how it is checked, and the mistakes that its check recognises."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

#: What a reader's function may be written in.
FRAMEWORKS = ("numpy", "torch", "tensorflow")

#: The module of each, which its starter imports, and the name by which the texts call it.
IMPORTS = {"numpy": "import numpy as np", "torch": "import torch", "tensorflow": "import tensorflow as tf"}
TITLES = {"numpy": "NumPy", "torch": "PyTorch", "tensorflow": "TensorFlow"}

_PACKAGES = {"numpy": "tfguide.reference", "torch": "tfguide.torch", "tensorflow": "tfguide.tensorflow"}


@dataclass(frozen=True)
class Mistake:
    """A misconception: what it says to the reader, and a function that computes in NumPy what it leads to."""

    sentence: str
    compute: Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise that checks itself.

    page: the beginning of the name of the page at whose end it stands, as "04e" of 04e_positions. grade: 1 to 3.
    signature: of the function that the reader writes, as "causal_mask(n_queries, n_keys)". statement: what it
    computes, with shapes; paragraphs are parted by an empty line. hints: three, each says more than the one before.

    inputs: makes the cases, each a tuple of arguments, from a generator of random numbers; arrays become the
    framework's tensors. oracle: computes the right result in NumPy. mistakes: those that are recognised.

    solution: the name of a function or class of the package: in exercises with tensors the name that `tfguide.torch`,
    `tfguide.tensorflow` and `tfguide.reference` share, else one behind its module, "tfguide.cost:kv_bytes". Default:
    the oracle itself. solve: the result of the package, where its parameters are not those of the exercise: takes the
    package (with tensors) and the arguments; default: a call of the solution. tensors: whether it is written in a
    framework; arithmetic on Python's numbers and NumPy's arrays has one starter for all. tools: what is of use, by
    framework.
    """

    id: str
    page: str
    grade: int
    title: str
    signature: str
    statement: str
    hints: tuple[str, str, str]
    inputs: Callable[[np.random.Generator], Sequence[tuple]]
    oracle: Callable[..., Any]
    mistakes: tuple[Mistake, ...]
    solution: str | None = None
    solve: Callable[..., Any] | None = None
    tensors: bool = True
    tools: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The name of the function that the reader writes."""
        return self.signature.split("(")[0]

    @property
    def frameworks(self) -> tuple[str, ...]:
        """What it can be written in."""
        return FRAMEWORKS if self.tensors else FRAMEWORKS[:1]

    @property
    def section(self) -> str:
        """The number of its page: "2", or "6.12" of the page 06l_many_devices."""
        chapter, letter = re.fullmatch(r"(\d\d)([a-z]?)", self.page).groups()
        return f"{int(chapter)}.{ord(letter) - ord('a') + 1}" if letter else str(int(chapter))

    @property
    def chapter(self) -> int:
        """The number of its chapter."""
        return int(self.page[:2])

    def cases(self) -> Sequence[tuple]:
        """The arguments of every case, the same at each call."""
        return self.inputs(np.random.default_rng(0))

    def solved_by(self, framework: str) -> Callable[..., Any]:
        """The package's solution as a function with the parameters of the exercise; the oracle takes NumPy's arrays.

        Raises ImportError where the framework is not installed.
        """
        package = self._package(framework)
        if package is not None:
            return self.shown(framework) if self.solve is None else partial(self.solve, package)
        return self.oracle if self.tensors else self.solve or self.shown(framework)

    def shown(self, framework: str) -> Any:
        """The function or class of the package that a reader is shown as the solution. Raises ImportError."""
        package = self._package(framework)
        if package is not None:
            return _find(package, self.solution)
        if self.solution is None or self.tensors:
            return self.oracle
        module, _, name = self.solution.partition(":")
        return _find(import_module(module), name)

    def _package(self, framework: str) -> ModuleType | None:
        """The package that computes the solution in a framework; None where the solution is no tensor program."""
        if not self.tensors or self.solution is None:
            return None
        package = import_module(_PACKAGES[framework])
        return package if self.solution.split(".")[0] in package.__all__ else None


def _find(owner, path):
    for name in path.split("."):
        owner = inspect.getattr_static(owner, name)
    return owner


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers in float64 that float32 holds exactly, so that every framework gets the same."""
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)
